import { z } from 'zod';
import { UserError } from '../base/errors.ts';

/** Why an answer is not learnt from. */
export const failureReasons = [
  /** Cut off by the token limit. */
  'truncated',
  /** The provider's filter took it, or a part of it. */
  'content-filter',
  /** No text. */
  'empty',
  /** The provider refused this question (too long for the model). */
  'refused',
  /** No answer came in all tries; nothing was got for it, and the next run asks again. */
  'unanswered',
] as const;

export type FailureReason = (typeof failureReasons)[number];

const usageSchema = z.object({
  promptTokens: z.number(),
  completionTokens: z.number(),
  cachedPromptTokens: z.number().exactOptional(),
  reasoningTokens: z.number().exactOptional(),
});

const responseSchema = z.object({
  /** Hash of all that decides the answer: the same question asked the same way has the same one. */
  requestKey: z.string(),
  /** kept: learnt from; failed: no usable answer; rejected: an answer that verification turned down. */
  status: z.enum(['kept', 'failed', 'rejected']),
  /** Of `failed` a FailureReason, of `rejected` what verification said. */
  reason: z.string().optional(),
  /** What a provider said, for reading. */
  detail: z.string().optional(),
  /** The arm's source of answers: a strategy's name, `gold`, `shuffled`, or a name from the config. */
  source: z.string(),
  strategy: z.object({ name: z.string(), version: z.number() }),
  exampleId: z.string(),
  /** SHA-256 of the question. */
  exampleHash: z.string(),
  sampleIndex: z.number(),
  /** SHA-256 of the messages as the teacher saw them. */
  promptHash: z.string(),
  /** The answer as it came, without what a reasoning model thought. */
  text: z.string(),
  reasoning: z.string().optional(),
  tokens: z.array(z.number()).optional(),
  finishReason: z.enum(['stop', 'length', 'content-filter', 'other']),
  gold: z.string(),
  strictExtraction: z.string().optional(),
  flexibleExtraction: z.string().optional(),
  strict: z.boolean(),
  flexible: z.boolean(),
  followsFormat: z.boolean(),
  usage: usageSchema.optional(),
  /** Of tries that were billed and gave nothing. */
  wastedUsage: usageSchema.optional(),
  /** Of tries of which nobody said what they cost: counted in full, since they may have been billed. */
  assumedUsage: usageSchema.optional(),
  /** All of the above at the prices of the time, where they are known. */
  costUsd: z.number().optional(),
  latencyMs: z.number(),
  /** Requests sent for it. */
  tryCount: z.number(),
  /** Kind, model and revision, in one word. */
  teacher: z.string(),
  reportedModel: z.string().optional(),
  /** ISO 8601. */
  collectedAt: z.string(),
  /** A copy of an earlier line under another verdict: what it cost is counted there. */
  isJudgedAgain: z.boolean().optional(),
  /** Where another question's answer stands here: that question's id. */
  answerFrom: z.string().optional(),
});

/** One answer of a teacher (or of what stands in for one) and all that is known of it. A line of `responses.jsonl`. */
export type Response = z.infer<typeof responseSchema>;

/** Parses a line; keys of later versions are let pass. `where` (file and line) goes into errors. */
export const parseResponse = (value: unknown, where: string): Response => {
  const parsed = responseSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UserError(`${where}: not an answer of a response store: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}.`);
};
