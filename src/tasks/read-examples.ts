import { UserError } from '../base/errors.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readRows } from '../data/read-rows.ts';
import type { Example, Task } from './task.ts';

export interface ReadExamplesOptions {
  /** Reads no further than this many examples; absent: all. */
  readonly limit?: number;
  /** Leaves out this many first. Ids and their numbering stay as they are. */
  readonly skip?: number;
  /** What the data call the split; absent: as it is called here. Ids do not change with it. */
  readonly dataSplit?: string;
  readonly access?: DataAccess;
}

/**
 * The examples of a split, of data in any form that `readRows` reads. Errors name file and line (row, item): what is no row, lacks a question
 * or an answer, or repeats an id. No more is read than is asked for.
 */
export const readExamples = async (task: Task, source: string, split: string, options: ReadExamplesOptions = {}): Promise<Example[]> => {
  const { limit = Number.POSITIVE_INFINITY, skip = 0, dataSplit = split, access } = options;
  const examples: Example[] = [];
  const placeOfId = new Map<string, string>();
  let index = 0;
  for await (const { where, value } of readRows(source, { split: dataSplit, what: `task "${task.name}"`, columns: task.columns, access })) {
    const example = task.parseExample(value, { split, index, where });
    index += 1;
    const earlier = placeOfId.get(example.id);
    if (earlier !== undefined) throw new UserError(`${where}: the id "${example.id}" was used at ${earlier} already. Ids must be unique.`);
    placeOfId.set(example.id, where);
    if (index > skip) examples.push(example);
    if (examples.length >= limit) break;
  }
  if (examples.length === 0) {
    const reason = index === 0 ? 'is empty' : `has ${index} examples, and ${skip} are to be skipped`;
    throw new UserError(`No examples for task "${task.name}": ${source} ${reason}.`);
  }
  return examples;
};
