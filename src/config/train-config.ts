import { z } from 'zod';
import type { ConfigContext } from './config-context.ts';
import { curationSettings, trainCurationSchema } from './curation-section.ts';
import { dataText, pathText } from './path-text.ts';
import { studentSchema } from './student-config.ts';
import { engineSchema, trainingSchema } from './training-config.ts';

/** Everything that `retort train` does by itself: fine-tune (or train from scratch) on conversations or on prompts with completions. */
export const trainSchema = (context: ConfigContext) =>
  z
    .strictObject({
      $schema: z.string().exactOptional(),
      data: z
        .strictObject({
          train: dataText(context, 'Rows {"messages": [{role, content}, …]}, or {"prompt", "completion"}.'),
          development: dataText(context, 'The same, for the evaluation loss.').exactOptional(),
          evaluation: dataText(
            context,
            'What the model will be measured on, in the same form or as {"question"}: nothing is learnt from rows that share words with it.',
          ).exactOptional(),
          splits: splitsSchema.prefault({}),
          fields: fieldsSchema.prefault({}),
          turns: z.enum(['all', 'last']).default('all').describe("Which of a conversation's assistant turns are learnt."),
          limit: z.int().min(1).exactOptional().describe('The first so many rows; without it, all.'),
        })
        .describe('What is learnt.'),
      student: studentSchema(context),
      training: trainingSchema.prefault({}),
      engine: engineSchema.prefault({}),
      curation: trainCurationSchema.prefault({}),
      seed: z.int().min(0).default(0).describe('Draws the order of rows, dropout and new parameters.'),
      format: z
        .enum(['float32', 'float16', 'bfloat16'])
        .default('float32')
        .describe('What a wholly trained model is written in; adapters are always float32.'),
      output: pathText(context, 'The folder for the adapter or model, its checkpoints and metrics.'),
    })
    .superRefine(({ training, data }, issues) => {
      if (training.checkpoint === 'best' && data.development === undefined) {
        issues.addIssue({
          code: 'custom',
          path: ['training', 'checkpoint'],
          message: 'the best weights are those with the least loss on development rows: give data.development',
        });
      }
      if (training.loss.name !== 'distillation') return;
      issues.addIssue({
        code: 'custom',
        path: ['training', 'loss', 'name'],
        message: 'distillation needs a teacher: give it in a config for `retort run`',
      });
    })
    .transform(({ $schema: _, ...config }) => ({ ...config, curation: curationSettings(config.curation, false) }));

const splitsSchema = z
  .strictObject({
    train: z.string().min(1).default('train'),
    development: z.string().min(1).default('validation'),
    evaluation: z.string().min(1).default('test'),
  })
  .describe('What the data call these splits, in a folder or on the hub.');

const fieldsSchema = z
  .strictObject({
    messages: z.string().min(1).default('messages'),
    prompt: z.string().min(1).default('prompt'),
    completion: z.string().min(1).default('completion'),
  })
  .describe('What your columns (keys) are called.');

export type TrainConfig = z.output<ReturnType<typeof trainSchema>>;
