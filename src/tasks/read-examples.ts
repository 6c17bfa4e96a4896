import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { Example, Task } from './task.ts';

export interface ReadExamplesOptions {
  /** Reads no further than this many examples; absent: all. */
  readonly limit?: number;
  /** Leaves out this many first. Ids and their numbering stay as they are. */
  readonly skip?: number;
}

/**
 * The examples of a split: of `FOLDER/<split>.jsonl`, or of a file. Errors name file and line: a line that is not JSON, lacks a question or an
 * answer, or repeats an id.
 */
export const readExamples = async (task: Task, path: string, split: string, options: ReadExamplesOptions = {}): Promise<Example[]> => {
  const { limit = Number.POSITIVE_INFINITY, skip = 0 } = options;
  const file = await dataFile(task, path, split);
  const examples: Example[] = [];
  const lineOfId = new Map<string, number>();
  let index = 0;
  for await (const { line, value } of readJsonLines(file, { onTorn: refuseTornLine(file) })) {
    if (examples.length >= limit) break;
    const where = `${file}:${line}`;
    const example = task.parseExample(value, { split, index, where });
    index += 1;
    const earlier = lineOfId.get(example.id);
    if (earlier !== undefined)
      throw new UserError(`${where}: the id "${example.id}" was used in line ${earlier} already. Ids must be unique.`);
    lineOfId.set(example.id, line);
    if (index > skip) examples.push(example);
  }
  if (examples.length === 0) {
    const reason = index === 0 ? 'is empty' : `has ${index} examples, and ${skip} are to be skipped`;
    throw new UserError(`No examples for task "${task.name}": ${file} ${reason}.`);
  }
  return examples;
};

const dataFile = async (task: Task, path: string, split: string): Promise<string> => {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new UserError(`No data for task "${task.name}" at ${path}. Give a folder with ${split}.jsonl, or a file.`);
  if (!found.isDirectory()) return path;
  const file = join(path, `${split}.jsonl`);
  if ((await stat(file).catch(() => undefined)) === undefined) {
    throw new UserError(
      `The folder ${path} has no ${split}.jsonl, the split "${split}" of task "${task.name}". Put it there, or give the file itself.`,
    );
  }
  return file;
};
