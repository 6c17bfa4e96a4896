import { z } from 'zod';
import { collectionSchema, pricesSchema } from '../responses/collection-config.ts';
import { defaultJudgePattern, defaultJudgePrompt } from '../responses/judge-model.ts';
import { keepPolicies } from '../responses/select.ts';
import type { ConfigContext } from './config-context.ts';
import { pathText } from './path-text.ts';
import { show } from './problem.ts';
import { teacherSection } from './teacher-section.ts';

const isPattern = (text: string): boolean => {
  try {
    new RegExp(text, 'u');
    return true;
  } catch {
    return false;
  }
};

const verifySchema = (context: ConfigContext) =>
  z
    .discriminatedUnion('by', [
      z
        .strictObject({ by: z.literal('task'), rule: z.enum(['strict', 'flexible']).default('strict') })
        .describe("As the task scores answers: the final number, the exact answer, the label, or the pattern's match."),
      z
        .strictObject({ by: z.literal('schema'), file: pathText(context, 'A JSON Schema.') })
        .describe('The answer is JSON of a schema, whatever it says.'),
      z
        .strictObject({
          by: z.literal('function'),
          module: pathText(
            context,
            'A module whose default export (or `verify`) is (answer, example) => boolean or { isRight, score, reason }.',
          ),
        })
        .describe('A function of your own. It is code: it can do whatever you can.'),
      z
        .strictObject({
          by: z.literal('judge'),
          teacher: teacherSection(context).describe('Who judges.'),
          prompt: z
            .string()
            .min(1)
            .default(defaultJudgePrompt)
            .refine((text) => text.includes('{{answer}}'), 'expected {{answer}} somewhere in it, which stands for the answer to be judged')
            .describe('What the judge is asked; {{question}}, {{answer}}, {{gold}} and {{solution}} stand for what they say.'),
          pattern: z
            .string()
            .min(1)
            .default(defaultJudgePattern)
            .refine(isPattern, { error: ({ input }) => `not a regular expression: ${show(input)}` })
            .describe("Its first group is the score; the last match in the judge's reply counts."),
          rightFrom: z.number().default(7).describe('The score from which an answer counts as right.'),
          maximumTokens: z.int().min(1).default(512),
          temperature: z.number().min(0).default(0),
          prices: pricesSchema.exactOptional(),
        })
        .describe('A second teacher gives each answer a score. Its verdicts are kept and paid for like answers, out of the same budget.'),
    ])
    .describe('How it is found out whether an answer is right.');

/** How answers are collected and which of them are learnt from. */
export const collectionSection = (context: ConfigContext) =>
  collectionSchema
    .extend({
      keep: z
        .enum(keepPolicies)
        .default('all')
        .describe(
          "Which of a teacher's answers are learnt from: all; right: those found right; first-right: of each question the first right one; best-of-n: of each question the one with the highest score; majority: of each question the first that agrees with most.",
        ),
      verify: verifySchema(context).prefault({ by: 'task' }),
      redact: pathText(
        context,
        'A module whose default export (or `redact`) sees every text before it is sent to a teacher, and says what is sent instead: (text) => text. It is code: it can do whatever you can.',
      ).exactOptional(),
    })
    .describe('What collecting answers may cost, how fast it may go, and which answers are learnt from.');

export type VerifyConfig = z.output<ReturnType<typeof verifySchema>>;
