import { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { Example, Task } from '../tasks/task.ts';
import { scoresOf } from './evaluate.ts';

/** A line of answers from elsewhere. Further fields are let be: other programs write what they need. */
const foreignAnswerSchema = z.looseObject({
  /** The question's id in the task's data. */
  id: z.union([z.string(), z.int()]),
  /** The whole answer, as the model gave it, under any one of these names. */
  text: z.string().optional(),
  answer: z.string().optional(),
  completion: z.string().optional(),
  finishReason: z.enum(['stop', 'length', 'content-filter', 'other']).optional(),
  tokenCount: z.int().nonnegative().optional(),
});

/** An answer from anywhere, scored. What is not known of it is absent. */
export interface ScoredAnswer {
  readonly id: string;
  /** SHA-256 of the question's text. */
  readonly questionHash: string;
  readonly text: string;
  readonly gold: string;
  readonly strictExtraction: string | null;
  readonly flexibleExtraction: string | null;
  readonly strict: boolean;
  readonly flexible: boolean;
  readonly followsFormat: boolean;
  readonly finishReason?: 'stop' | 'length' | 'content-filter' | 'other';
  readonly tokenCount?: number;
}

export interface ScoreAnswersOptions {
  /**
   * JSON lines, each `{"id": …, "text": …}` (or `answer`, or `completion`) and optionally `finishReason` (`stop` | `length` | …) and
   * `tokenCount`.
   */
  readonly file: string;
  readonly task: Task;
  /** The questions that were to be answered: each must have one answer, and no other may. */
  readonly examples: readonly Example[];
}

/**
 * Scores answers that were made elsewhere, with the task's own rules. In the order of the examples. Missing, doubled and unknown ids are
 * errors with their counts: an accuracy over some of the questions is another number.
 */
export const scoreAnswers = async ({ file, task, examples }: ScoreAnswersOptions): Promise<ScoredAnswer[]> => {
  const known = new Map(examples.map((example) => [example.id, example]));
  const scored = new Map<string, ScoredAnswer>();
  const unknown: string[] = [];
  for await (const { line, value } of readJsonLines(file, { onTorn: refuseTornLine(file) })) {
    const answer = parseForeign(value, `${file}:${line}`);
    const id = String(answer.id);
    const example = known.get(id);
    if (example === undefined) {
      unknown.push(id);
      continue;
    }
    if (scored.has(id))
      throw new UserError(`${file}:${line}: a second answer to question ${JSON.stringify(id)}. Keep one answer a question.`);
    scored.set(id, {
      id,
      questionHash: sha256(example.question),
      text: answer.text,
      ...scoresOf(task, answer.text, example),
      ...(answer.finishReason === undefined ? {} : { finishReason: answer.finishReason }),
      ...(answer.tokenCount === undefined ? {} : { tokenCount: answer.tokenCount }),
    });
  }
  checkComplete(file, examples, scored, unknown);
  return examples.flatMap(({ id }) => scored.get(id) ?? []);
};

const textNames = ['text', 'answer', 'completion'] as const;

const parseForeign = (value: unknown, where: string): z.infer<typeof foreignAnswerSchema> & { readonly text: string } => {
  const parsed = foreignAnswerSchema.safeParse(value);
  const given = parsed.success ? textNames.filter((name) => parsed.data[name] !== undefined) : [];
  const [name] = given;
  if (parsed.success && name !== undefined && given.length === 1) return { ...parsed.data, text: parsed.data[name] ?? '' };
  if (given.length > 1) throw new UserError(`${where}: which is the answer, ${given.join(' or ')}? Keep one of them.`);
  const keys = typeof value === 'object' && value !== null ? Object.keys(value) : [];
  const hints = ['id', 'text'].flatMap((key) => {
    const near = keys.includes(key) ? undefined : nearestName(key, keys);
    return near === undefined ? [] : [` Is "${near}" the ${key}?`];
  });
  const got = keys.length === 0 ? JSON.stringify(value)?.slice(0, 60) : `the fields ${keys.join(', ')}`;
  const problems = parsed.success ? '' : `\n${z.prettifyError(parsed.error)}`;
  throw new UserError(
    `${where}: expected {"id": …, "text": …}, an answer to a question of the task; got ${got}.${hints.join('')}${problems}`,
  );
};

const checkComplete = (
  file: string,
  examples: readonly Example[],
  scored: ReadonlyMap<string, unknown>,
  unknown: readonly string[],
): void => {
  const missing = examples.filter(({ id }) => !scored.has(id)).map(({ id }) => id);
  if (missing.length === 0 && unknown.length === 0) return;
  const name = (ids: readonly string[]) =>
    ids
      .slice(0, 3)
      .map((id) => JSON.stringify(id))
      .join(', ') + (ids.length > 3 ? ', …' : '');
  const parts = [
    ...(missing.length > 0 ? [`${missing.length} of ${examples.length} questions have no answer (${name(missing)})`] : []),
    ...(unknown.length > 0 ? [`${unknown.length} answers belong to no question (${name(unknown)})`] : []),
  ];
  throw new UserError(`${file}: ${parts.join('; ')}. Evaluate with the questions that were asked: the same data file, split and limit.`);
};
