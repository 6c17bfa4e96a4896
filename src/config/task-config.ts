import { z } from 'zod';
import type { ConfigContext } from './config-context.ts';
import { dataText } from './path-text.ts';

const splitSchema = (name: 'train' | 'test', description: string) =>
  z
    .strictObject({
      split: z.string().min(1).exactOptional().describe(`What the data call this split, in a folder or on the hub; without it, ${name}.`),
      limit: z.int().min(1).exactOptional().describe('The first so many questions; without it, all.'),
      skip: z.int().min(0).default(0).describe('Questions left out before the first.'),
    })
    .describe(description);

const developmentSchema = z
  .strictObject({ limit: z.int().min(0).default(0).describe('How many; 0: none.') })
  .describe('Questions of the training split that follow those trained on: for the evaluation loss, and to choose settings by.');

const splits = {
  train: splitSchema('train', 'Questions that the teacher answers and the student is trained on.').prefault({}),
  development: developmentSchema.prefault({}),
  test: splitSchema('test', 'Questions on which students are measured.').prefault({}),
};

/** What is learnt, and from which questions. */
export const taskSchema = (context: ConfigContext) =>
  z
    .discriminatedUnion('name', [
      z
        .strictObject({
          name: z.literal('gsm8k'),
          folder: dataText(context, 'The folder with train.jsonl and test.jsonl, or hub:openai/gsm8k/main.'),
          instruction: instructionSchema,
          ...splits,
        })
        .describe('Grade-school word problems (Cobbe et al. 2021).'),
      z
        .strictObject({
          name: z.literal('word-problems'),
          seed: z.int().min(0).default(1).describe('Draws the problems.'),
          fewestSteps: z.int().min(1).default(2).describe('Calculations that lead to an answer, at least.'),
          mostSteps: z.int().min(1).default(3).describe('And at most.'),
          instruction: instructionSchema,
          train: generatedSchema(256).prefault({}),
          development: developmentSchema.prefault({}),
          test: generatedSchema(200).prefault({}),
        })
        .describe('Word problems that are generated: no data needed.'),
      z
        .strictObject({
          name: z.literal('jsonl'),
          files: z
            .strictObject({
              train: dataText(context, 'Training questions.'),
              test: dataText(context, 'Test questions.'),
            })
            .describe('Your own questions.'),
          fields: fieldsSchema.prefault({}),
          scorer: scorerSchema.prefault({ kind: 'exact' }),
          instruction: instructionSchema,
          ...splits,
        })
        .describe('Your own questions and solutions: JSON lines, a JSON list, CSV, TSV or Parquet.'),
    ])
    .superRefine((task, issues) => {
      if (task.name === 'word-problems' && task.mostSteps < task.fewestSteps) {
        issues.addIssue({ code: 'custom', path: ['mostSteps'], message: `expected at least fewestSteps, which is ${task.fewestSteps}` });
      }
      if (task.development.limit > 0 && task.train.limit === undefined) {
        issues.addIssue({
          code: 'custom',
          path: ['development', 'limit'],
          message: 'the development questions follow those trained on, so train.limit must say how many those are',
        });
      }
    })
    .describe('What is learnt, and from which questions.');

const fieldsSchema = z
  .strictObject({
    question: z.string().min(1).default('question'),
    answer: z.string().min(1).default('answer').describe('The final answer alone.'),
    solution: z.string().min(1).exactOptional().describe('A worked solution to learn from; without it, the answer.'),
    id: z.string().min(1).exactOptional().describe('Unique ids; without it, they are made from the place in the data.'),
  })
  .describe('What your columns (keys) are called.');

const scorerSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('exact') }).describe('The whole answer.'),
    z.strictObject({ kind: z.literal('number') }).describe('As GSM8K is scored: `#### number`, or the last number.'),
    z.strictObject({ kind: z.literal('regex'), pattern: z.string().min(1) }).describe('What the first group of a pattern matches.'),
    z
      .strictObject({ kind: z.literal('label'), labels: z.array(z.string().min(1)).min(2) })
      .describe('One of these labels, whatever its case.'),
  ])
  .describe('How an answer is judged.');

const instructionSchema = z
  .string()
  .exactOptional()
  .describe("Told to teacher and student alike, in every arm: how the answer must end. Without it, the task's own.");

const generatedSchema = (count: number) => z.strictObject({ limit: z.int().min(1).default(count) });

export type TaskConfig = z.output<ReturnType<typeof taskSchema>>;
