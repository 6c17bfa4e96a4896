import { z } from 'zod';
import { machineSchema, protocolSchema, versionsSchema } from '../run-folder/manifest.ts';
import { type RunSummary, summarySchemaVersion } from './summary.ts';

// The JSON of a report (`report/summary.json`, `retort report RUN --json`), for programs that read it: `schemas/report.schema.json` is made of it.

const count = z.int().nonnegative();
const probability = z.number().min(0).max(1);
const interval = z.strictObject({ low: z.number(), high: z.number(), confidence: probability });
const share = z.strictObject({ count, total: count, interval }).describe('A share of questions.');
const generality = z
  .enum(['questions', 'questions and seeds'])
  .describe('What the interval speaks of: other questions with these seeds, or other questions and seeds.');

const pairCounts = z
  .strictObject({
    bothCount: count,
    onlyFirstCount: count,
    onlySecondCount: count,
    neitherCount: count,
    pValue: probability,
    midPValue: probability,
  })
  .describe("McNemar's table of right answers, with the exact p-value and the mid-p.");
const scorePair = z.strictObject({ strict: pairCounts, flexible: pairCounts });

const subject = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('arm'),
    arm: z.strictObject({ source: z.string(), method: z.string(), student: z.string(), seed: count }),
  }),
  z.strictObject({ kind: z.literal('untouched'), student: z.string(), variant: z.string().exactOptional() }),
  z.strictObject({ kind: z.literal('teacher'), variant: z.string().exactOptional() }),
]);

const answerForm = z.strictObject({
  answerCount: count,
  followsFormatCount: count.describe('Answers in the form that the instruction asks for.'),
  rightInFormatCount: count.describe('Of those, the strictly right ones.'),
  cutOffCount: count.describe('Answers cut off by the token limit, of those whose end is known.'),
  neverStopsCount: count.describe('Of those, the ones that would not have stopped.'),
  knownEndCount: count,
  tokenCount: count,
  knownLengthCount: count,
});

const row = z.strictObject({
  name: z.string().describe('An arm with its seed, `untouched--…`, or `teacher`.'),
  subject,
  strict: share,
  flexible: share,
  format: answerForm,
  likelihood: z
    .strictObject({ logLikelihood: z.number(), tokenCount: count, truncatedCount: count })
    .describe('Of held-out gold solutions: nats, and the tokens that they are over.')
    .exactOptional(),
  training: z
    .strictObject({
      rowCount: count.exactOptional(),
      droppedCount: count.exactOptional(),
      trainedTokenCount: count.exactOptional(),
      stepCount: count.exactOptional(),
      keptStep: count.exactOptional(),
    })
    .exactOptional(),
  versusBaseline: scorePair.exactOptional(),
  versusUntouched: scorePair.exactOptional(),
});

const groupMean = z.strictObject({
  mean: z.number(),
  interval,
  generality,
  seedCount: count,
  seedDeviation: z.number().nonnegative().describe("Standard deviation of the seeds' means."),
});

const group = z.strictObject({
  kind: z.enum(['arm', 'untouched', 'teacher']),
  label: z.string(),
  source: z.string().exactOptional(),
  method: z.string().exactOptional(),
  student: z.string().exactOptional(),
  variant: z.string().exactOptional(),
  isBaseline: z.boolean(),
  rowNames: z.array(z.string()).describe('The rows that it is over, one a seed.'),
  strict: groupMean,
  flexible: groupMean,
  likelihood: groupMean.describe('Mean log-likelihood per token of gold solutions, in nats.').exactOptional(),
  format: answerForm,
  trainedTokenCount: count.exactOptional(),
});

const comparison = z.strictObject({
  measure: z.enum(['strict', 'flexible', 'likelihood']),
  first: z.string(),
  second: z.string(),
  against: z.enum(['baseline', 'untouched', 'asked otherwise']),
  isPlanned: z.boolean().describe('Of the family declared in the config; every other one is exploratory and uncorrected.'),
  difference: z.number().describe('First minus second: shares of 1, or nats per token.'),
  interval,
  generality,
  pValue: probability,
  adjustedPValue: probability.describe("Holm's correction over the planned family.").exactOptional(),
  test: z.enum(['exact McNemar', 'exact sign-flip over questions', 'sign-flip over questions', 'crossed t']),
  seedCount: count,
  questionCount: count,
  detectable: z.number().describe('The smallest true difference that would be found with 80 % power, given the variation seen.'),
});

const collection = z.strictObject({
  source: z.string(),
  keptCount: count,
  failedCount: count,
  rejectedCount: count,
  rightCount: count.exactOptional(),
  answeredQuestionCount: count.exactOptional(),
  promptTokenCount: count.exactOptional(),
  completionTokenCount: count.exactOptional(),
  costUsd: z.number().nonnegative().exactOptional(),
});

const search = z.strictObject({
  stage: z.string(),
  candidates: z.array(
    z.strictObject({
      learningRate: z.number(),
      epochs: z.number(),
      alpha: z.number().exactOptional(),
      temperature: z.number().exactOptional(),
      developmentLoss: z.number().nullable().describe("Nats per token of the judging questions' own solutions; null where it is lost."),
      lost: z.string().describe('Why there is no loss.').exactOptional(),
      stepCount: count.exactOptional(),
      trainedTokenCount: count.exactOptional(),
    }),
  ),
  learningRate: z.number(),
  epochs: z.number(),
  alpha: z.number().exactOptional(),
  temperature: z.number().exactOptional(),
  arm: z.string(),
  rowCount: count,
  judgingRowCount: count,
  judgedOn: z.enum(['development', 'test']),
});

export const summarySchema = z
  .strictObject({
    schemaVersion: z.literal(summarySchemaVersion).describe('Raised when a program that reads the old version would misread the new one.'),
    name: z.string(),
    createdAt: z.iso.datetime(),
    configHash: z.string(),
    protocol: protocolSchema,
    questionCount: count.describe('Questions that every row answered: all numbers are over these.'),
    questionsHash: z.string().describe('Runs with the same one were measured on the same questions.'),
    headline: z.string().describe('The answer in one sentence, with its uncertainty.'),
    groups: z.array(group).describe('Students that differ in their seed alone.'),
    rows: z.array(row).describe('Every student by itself.'),
    comparisons: z.array(comparison),
    collections: z.array(collection).describe('Answers to training questions, by source.'),
    searches: z.array(search).describe('What was chosen before the test questions were opened, and among what.'),
    warnings: z.array(z.string()),
    unfinished: z.array(
      z.strictObject({ stage: z.string(), state: z.enum(['not begun', 'begun', 'failed']), error: z.string().exactOptional() }),
    ),
    testOpenings: z.array(z.strictObject({ at: z.string(), what: z.string() })),
    sessions: z.array(z.strictObject({ startedAt: z.string(), versions: versionsSchema, machine: machineSchema })),
  })
  .describe('What a run came to: every number of its report.') satisfies z.ZodType<RunSummary>;

/** The keys of a type, optional ones like the others, all the way down. */
type Keys<T> = T extends readonly (infer Element)[] ? Keys<Element> : T extends object ? { [K in keyof T]-?: Keys<T[K]> } : true;
type Has<Expected, Actual extends Expected> = Actual;
/** Does not compile where the schema lacks a key of the summary, which `satisfies` lets pass when it is optional. */
export type SummarySchemaKeys = Has<Keys<RunSummary>, Keys<z.output<typeof summarySchema>>>;

/** `schemas/report.schema.json`. */
export const reportJsonSchema = (): object => ({ ...z.toJSONSchema(summarySchema), title: 'retort report' });
