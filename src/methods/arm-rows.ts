import { InternalError, UserError } from '../base/errors.ts';
import type { RunConfig } from '../config/run-config.ts';
import { studentMessages } from '../priming/primed-messages.ts';
import type { Response } from '../responses/response.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { stageNames } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { ModelText } from '../text/model-text.ts';
import { type TrainingRow, trainingRow } from '../text/training-row.ts';
import { type TrainingRows, trainingRows } from '../text/training-rows.ts';
import { learnsEnd } from './departing.ts';
import { matchedByQuestion } from './sources.ts';
import type { Surroundings } from './surroundings.ts';

/** A question and the answer that an arm's student learns to it. */
export interface RowItem {
  readonly example: Example;
  readonly response: Response;
}

/** An arm's rows; `dropped` are its answers that are too long here, or whose question is left out since it is so in another arm. */
export type ArmRows = TrainingRows<RowItem>;

export interface ArmRowsOptions {
  readonly examples: readonly Example[];
  readonly task: Task;
  readonly text: ModelText;
  readonly config: RunConfig;
  readonly run: RunFolder;
  readonly surroundings: Surroundings;
}

/**
 * The rows of every arm, by its name. All arms have rows of the same questions, unless the config asks otherwise: those to which every arm has a
 * kept answer, none of them too long. An arm whose teacher talks more, or of whose answers fewer are right, would otherwise also learn from fewer
 * and easier questions than the rest. What that costs each arm is recorded as a warning of the run.
 */
export const armRows = async (
  collected: ReadonlyMap<string, readonly Response[]>,
  options: ArmRowsOptions,
): Promise<ReadonlyMap<string, ArmRows>> => {
  const { run, surroundings, config } = options;
  if (config.curation.matching === 'none') return ownRows(collected, options);
  const answered = matchedByQuestion(collected);
  checkSomeLeft(collected, answered);
  const made = new Map([...answered].map(([name, responses]) => [name, rowsOfArm(name, responses, options)]));
  const matched = withCommonQuestions(made);
  for (const [name, responses] of collected) {
    const unanswered = responses.length - (answered.get(name)?.length ?? 0);
    const tooLong = (matched.get(name)?.dropped.length ?? 0) - (made.get(name)?.dropped.length ?? 0);
    const stage = stageNames.collect(name);
    if (unanswered > 0)
      await run.warn(stage, `${unanswered} kept answers are not trained on, since another arm has none to their questions.`);
    if (tooLong > 0)
      await run.warn(stage, `${tooLong} kept answers are not trained on, since another arm's to their questions are too long.`);
  }
  const questionCount = idsOf(matched.values().next().value).size;
  if (questionCount === 0) {
    throw new UserError(
      `No question has an answer of at most ${config.training.maximumLength} tokens in every arm. Raise training.maximumLength, or leave out the arm with the longest answers.`,
    );
  }
  surroundings.say?.(`${questionCount} questions have a kept answer that is not too long in every arm; all arms are trained on these.`);
  return matched;
};

/** Each arm's own questions; that arms differ in these, too, must be known to whoever reads the comparison. */
const ownRows = async (
  collected: ReadonlyMap<string, readonly Response[]>,
  options: ArmRowsOptions,
): Promise<ReadonlyMap<string, ArmRows>> => {
  const made = new Map([...collected].map(([name, responses]) => [name, rowsOfArm(name, responses, options)]));
  const counts = [...made].map(([name, rows]) => `${name} ${idsOf(rows).size}`);
  const note = `Arms are trained on questions of their own (${counts.join(', ')}), as curation.matching asks: differences between them may come from the questions.`;
  options.surroundings.say?.(note);
  await options.run.warn('curation', note);
  return made;
};

const checkSomeLeft = (collected: ReadonlyMap<string, readonly Response[]>, answered: ReadonlyMap<string, readonly Response[]>): void => {
  if ([...answered.values()].every((responses) => responses.length > 0)) return;
  const counts = [...collected].map(([name, responses]) => `${name} ${responses.length}`).join(', ');
  throw new UserError(
    `No question has a kept answer in every arm, so there is nothing that all of them could be trained on. Kept answers: ${counts}. ` +
      'Leave out the arm without answers, or see in its responses.jsonl and in curation/left-out.jsonl why they were not kept (too long: raise sampling.maximumTokens).',
  );
};

const idsOf = (rows: ArmRows | undefined): Set<string> => new Set(rows?.rows.map(({ item }) => item.example.id));

const withCommonQuestions = (made: ReadonlyMap<string, ArmRows>): Map<string, ArmRows> => {
  const common = [...made.values()].map(idsOf).reduce((left, right) => left.intersection(right));
  return new Map(
    [...made].map(([name, arm]) => {
      const [kept, lost] = [true, false].map((isKept) => arm.rows.filter(({ item }) => common.has(item.example.id) === isKept));
      return [name, { ...arm, rows: kept ?? [], dropped: [...arm.dropped, ...(lost ?? []).map(({ item }) => item)] }] as const;
    }),
  );
};

const rowsOfArm = (name: string, responses: readonly Response[], { examples, task, text, config }: ArmRowsOptions): ArmRows => {
  const exampleOf = new Map(examples.map((example) => [example.id, example]));
  const items = responses.map((response) => {
    const example = exampleOf.get(response.exampleId);
    if (example === undefined) throw new InternalError(`an answer to ${response.exampleId}, which is not among the questions`);
    return { example, response };
  });
  const { maximumLength } = config.training;
  const makeRow = ({ example, response }: RowItem): TrainingRow | undefined =>
    trainingRow(text.template, text.tokenizer, studentMessages(example, task.instruction), response.text, {
      maximumLength,
      learnsEnd: learnsEnd(config),
      where: `arm ${name}, ${example.id}`,
    });
  return trainingRows(items, makeRow, { maximumLength, keepTruncated: false, what: `arm ${name}` });
};

/** Held-out rows of the training split, with the data set's own solutions: what settings are chosen by. */
export const developmentRowsOf = (
  examples: readonly Example[],
  { task, text, config, surroundings }: Pick<ArmRowsOptions, 'task' | 'text' | 'config' | 'surroundings'>,
): TrainingRow[] => {
  if (examples.length === 0) return [];
  const { maximumLength } = config.training;
  const makeRow = (example: Example): TrainingRow | undefined =>
    trainingRow(text.template, text.tokenizer, studentMessages(example, task.instruction), example.solution, {
      maximumLength,
      learnsEnd: learnsEnd(config),
      where: example.id,
    });
  const { rows, dropped } = trainingRows(examples, makeRow, { maximumLength, keepTruncated: false, what: 'development questions' });
  if (dropped.length > 0) surroundings.say?.(`${dropped.length} of ${examples.length} development questions are left out as too long.`);
  return rows.map(({ row }) => row);
};
