import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { Example, Task } from '../tasks/task.ts';
import { scoreAnswers } from './score-answers.ts';

/** A scored answer from anywhere, as far as it is known. */
export interface ComparableAnswer {
  readonly id: string;
  /** SHA-256 of the question's text, where the file holds one: what files of different programs are joined by. */
  readonly questionHash?: string;
  readonly strict: boolean;
  readonly flexible: boolean;
  readonly followsFormat?: boolean;
  readonly isCutOff?: boolean;
  readonly tokenCount?: number;
  readonly text?: string;
}

export interface AnswerFile {
  readonly path: string;
  readonly format: 'retort' | 'lm-evaluation-harness' | 'answers';
  readonly answers: readonly ComparableAnswer[];
}

/** For answers without scores: the task's rules and its questions. */
export interface AnswerScoring {
  readonly task: Task;
  readonly examples: readonly Example[];
}

/** Ours: a record of a run's evaluations, or of `scoreAnswers`. */
const scoredSchema = z.looseObject({
  id: z.union([z.string(), z.int()]),
  questionHash: z.string().optional(),
  strict: z.boolean(),
  flexible: z.boolean(),
  followsFormat: z.boolean().optional(),
  finishReason: z.string().optional(),
  tokenCount: z.int().nonnegative().nullish(),
  text: z.string().optional(),
});

/** A line of lm-evaluation-harness's `--log_samples`: one for each question and filter (0.4.x, evaluator.py). */
const harnessSchema = z.looseObject({
  doc_id: z.int(),
  doc: z.looseObject({ question: z.string().optional() }),
  filter: z.string(),
  metrics: z.array(z.string()).optional(),
  resps: z.array(z.array(z.unknown())).optional(),
  filtered_resps: z.array(z.unknown()).optional(),
});

/**
 * Reads scored answers from a run folder's file, from samples that lm-evaluation-harness logged, or, with `scoring`, plain answers
 * (`{"id", "text"}`). The first line tells which.
 */
export const readAnswerFile = async (path: string, scoring?: AnswerScoring): Promise<AnswerFile> => {
  let format: AnswerFile['format'] | undefined;
  const scored: ComparableAnswer[] = [];
  const harness: { line: number; value: unknown }[] = [];
  for await (const { line, value } of readJsonLines(path, { onTorn: refuseTornLine(path) })) {
    format ??= formatOf(value);
    if (format === 'retort') scored.push(parseScored(value, `${path}:${line}`));
    else if (format === 'lm-evaluation-harness') harness.push({ line, value });
    else break;
  }
  if (format === undefined) throw new UserError(`${path} holds no answers.`);
  if (format === 'retort') return { path, format, answers: checkDoubles(scored, path) };
  if (format === 'lm-evaluation-harness') return { path, format, answers: checkDoubles(joinFilters(harness, path), path) };
  if (scoring === undefined) {
    throw new UserError(
      `${path} holds answers without scores ("strict" and "flexible"): say which task's rules to score them by, and give its questions.`,
    );
  }
  const answers = await scoreAnswers({ file: path, ...scoring });
  return { path, format, answers: answers.map((answer) => ({ ...answer, isCutOff: answer.finishReason === 'length' })) };
};

const formatOf = (value: unknown): AnswerFile['format'] => {
  const keys = typeof value === 'object' && value !== null ? value : {};
  if ('doc_id' in keys && 'filter' in keys) return 'lm-evaluation-harness';
  return 'strict' in keys && 'flexible' in keys ? 'retort' : 'answers';
};

const parseScored = (value: unknown, where: string): ComparableAnswer => {
  const parsed = scoredSchema.safeParse(value);
  if (!parsed.success) throw new UserError(`${where}: not a scored answer:\n${z.prettifyError(parsed.error)}`);
  const { id, questionHash, strict, flexible, followsFormat, finishReason, tokenCount, text } = parsed.data;
  return {
    id: String(id),
    strict,
    flexible,
    ...(questionHash === undefined ? {} : { questionHash }),
    ...(followsFormat === undefined ? {} : { followsFormat }),
    ...(finishReason === undefined || finishReason === 'other' ? {} : { isCutOff: finishReason === 'length' }),
    ...(tokenCount === undefined || tokenCount === null ? {} : { tokenCount }),
    ...(text === undefined ? {} : { text }),
  };
};

/** Names of the harness's filters for either rule; a task with one filter of another name is scored by it both ways. */
const strictFilter = 'strict-match';
const flexibleFilter = 'flexible-extract';

const joinFilters = (lines: readonly { line: number; value: unknown }[], path: string): ComparableAnswer[] => {
  const byDocument = new Map<number, Map<string, HarnessScore>>();
  for (const { line, value } of lines) {
    const parsed = harnessSchema.safeParse(value);
    if (!parsed.success) throw new UserError(`${path}:${line}: not a logged sample:\n${z.prettifyError(parsed.error)}`);
    const filters = byDocument.get(parsed.data.doc_id) ?? new Map<string, HarnessScore>();
    if (filters.has(parsed.data.filter)) {
      throw new UserError(
        `${path}:${line}: question ${parsed.data.doc_id} stands there twice under the filter ${parsed.data.filter}. Keep one.`,
      );
    }
    byDocument.set(parsed.data.doc_id, filters.set(parsed.data.filter, harnessScore(parsed.data, `${path}:${line}`)));
  }
  return [...byDocument].map(([id, filters]) => {
    const [only] = filters.values();
    const strict = filters.get(strictFilter) ?? only;
    const flexible = filters.get(flexibleFilter) ?? only;
    if (strict === undefined || flexible === undefined) throw new UserError(`${path}: question ${id} has no score.`);
    return {
      id: String(id),
      strict: strict.isRight,
      flexible: flexible.isRight,
      ...(strict.question === undefined ? {} : { questionHash: sha256(strict.question.trim()) }),
      ...(filters.has(strictFilter) ? { followsFormat: strict.hasExtraction } : {}),
      ...(strict.text === undefined ? {} : { text: strict.text }),
    };
  });
};

interface HarnessScore {
  readonly isRight: boolean;
  /** The harness writes `[invalid]` where a filter found nothing. */
  readonly hasExtraction: boolean;
  readonly question: string | undefined;
  readonly text: string | undefined;
}

const harnessScore = (sample: z.infer<typeof harnessSchema>, where: string): HarnessScore => {
  const name = ['exact_match', 'acc', ...(sample.metrics ?? [])].find((metric) => sample[metric] === 0 || sample[metric] === 1);
  if (name === undefined) {
    throw new UserError(`${where}: no score of 0 or 1 (exact_match, acc): only right and wrong can be compared.`);
  }
  const text = sample.resps?.[0]?.[0];
  return {
    isRight: sample[name] === 1,
    hasExtraction: sample.filtered_resps?.[0] !== '[invalid]',
    question: sample.doc.question,
    text: typeof text === 'string' ? text : undefined,
  };
};

const checkDoubles = (answers: readonly ComparableAnswer[], path: string): readonly ComparableAnswer[] => {
  const seen = new Set<string>();
  for (const { id } of answers) {
    if (seen.has(id)) throw new UserError(`${path}: question ${JSON.stringify(id)} was answered twice. Keep one answer a question.`);
    seen.add(id);
  }
  return answers;
};
