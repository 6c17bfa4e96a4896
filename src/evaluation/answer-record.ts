import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { readJsonLines } from '../base/json-lines.ts';

const hash = z.string().regex(/^[0-9a-f]{64}$/);

/** One answer to one question and its scores: a line of `evaluations/SUBJECT.jsonl`. Part of the run folder's public format. */
const answerRecordSchema = z.strictObject({
  /** The example's id. */
  id: z.string(),
  /** The question alone, so that the file can be read by itself. */
  question: z.string(),
  /** SHA-256 of the question's text. */
  questionHash: hash,
  /** SHA-256 of the prompt as the model got it. */
  promptHash: hash,
  /** SHA-256 of all that decides the answer: prompt, model, sampling, template. */
  requestHash: hash,
  text: z.string(),
  /** Token ids with the end token; null where they are not known. */
  tokens: z.array(z.int()).nullable(),
  /** null where the teacher did not say. */
  tokenCount: z.int().nonnegative().nullable(),
  promptTokenCount: z.int().nonnegative().nullable(),
  /** What all tries for it cost; absent where a model of our own answered. */
  spent: z
    .strictObject({
      requests: z.int().positive(),
      tokens: z.int().nonnegative(),
      /** In US dollars; absent where no price is known. */
      usd: z.number().nonnegative().exactOptional(),
    })
    .exactOptional(),
  finishReason: z.enum(['stop', 'length', 'content-filter', 'other']),
  gold: z.string(),
  /** What either rule read from the text; null where it found nothing. */
  strictExtraction: z.string().nullable(),
  flexibleExtraction: z.string().nullable(),
  strict: z.boolean(),
  flexible: z.boolean(),
  followsFormat: z.boolean(),
});

/** The log-likelihood of one gold solution: a line of `evaluations/SUBJECT.likelihood.jsonl`. */
const likelihoodRecordSchema = z.strictObject({
  id: z.string(),
  questionHash: hash,
  requestHash: hash,
  /** Σ log p(token) over the solution's tokens and the end of its turn, in nats; never above 0 but for rounding. */
  logLikelihood: z.number(),
  tokenCount: z.int().positive(),
  /** The solution was longer than the model's context and was cut. */
  isTruncated: z.boolean(),
});

export type AnswerRecord = z.infer<typeof answerRecordSchema>;
export type LikelihoodRecord = z.infer<typeof likelihoodRecordSchema>;

/** The records of `evaluations/SUBJECT.jsonl` in the order of the file. An id that stands there twice is an error. */
export const readAnswerRecords = (path: string): Promise<AnswerRecord[]> => readRecords(path, answerRecordSchema, 'answer');

/** The records of `evaluations/SUBJECT.likelihood.jsonl` in the order of the file. */
export const readLikelihoodRecords = (path: string): Promise<LikelihoodRecord[]> =>
  readRecords(path, likelihoodRecordSchema, 'log-likelihood');

const readRecords = async <Row extends { readonly id: string }>(path: string, schema: z.ZodType<Row>, what: string): Promise<Row[]> => {
  const records: Row[] = [];
  const lineOf = new Map<string, number>();
  // A torn last line is the trace of a killed process: its question is simply answered again.
  for await (const { line, value } of readJsonLines(path)) {
    const parsed = schema.safeParse(value);
    if (!parsed.success) throw new UserError(`${path}:${line}: not a record of an ${what}:\n${z.prettifyError(parsed.error)}`);
    const before = lineOf.get(parsed.data.id);
    if (before !== undefined) {
      throw new UserError(
        `${path}:${line}: the ${what} for ${JSON.stringify(parsed.data.id)} stands there twice, first on line ${before}. Delete one.`,
      );
    }
    lineOf.set(parsed.data.id, line);
    records.push(parsed.data);
  }
  return records;
};
