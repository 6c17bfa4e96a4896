import { z } from 'zod';
import { scheduleNames } from '../optim/schedule.ts';
import { deviceNames } from '../runtime/devices.ts';

const optimiserSchema = z
  .discriminatedUnion('name', [
    z.strictObject({
      name: z.literal('adamw'),
      beta1: z.number().min(0).lt(1).default(0.9),
      beta2: z.number().min(0).lt(1).default(0.999),
      epsilon: z.number().positive().default(1e-8),
      weightDecay: z.number().min(0).default(0),
    }),
    z.strictObject({
      name: z.literal('sgd'),
      momentum: z.number().min(0).lt(1).default(0),
      weightDecay: z.number().min(0).default(0),
    }),
  ])
  .describe('Weight decay skips norms and biases.');

export const lossSchema = z.discriminatedUnion('name', [
  z.strictObject({ name: z.literal('cross-entropy') }),
  z
    .strictObject({
      name: z.literal('distillation'),
      alpha: z.number().min(0).max(1).default(0.5).describe('The share of cross-entropy.'),
      temperature: z.number().positive().default(2),
    })
    .describe("α·CE + (1−α)·T²·KL(teacher ‖ student), with a local teacher's logits on the answer's tokens."),
]);

/** How the student is trained. Every arm of a run is trained in this one way. */
export const trainingSchema = z
  .strictObject({
    epochs: z.int().min(1).default(1),
    rowsPerStep: z.int().min(1).default(8).describe('Rows of one optimiser step: gradients are accumulated over them.'),
    learningRate: z.number().positive().default(5e-4).describe('The peak of the schedule.'),
    schedule: z.enum(scheduleNames).default('cosine'),
    warmupShare: z.number().min(0).max(1).default(0.05).describe('The share of all steps over which the learning rate rises.'),
    optimiser: optimiserSchema.prefault({ name: 'adamw' }),
    maximumNorm: z
      .number()
      .positive()
      .nullable()
      .default(1)
      .describe('Gradients of a larger global norm are scaled down to it; null: never.'),
    loss: lossSchema.prefault({ name: 'cross-entropy' }),
    maximumLength: z.int().min(2).default(512).describe('Tokens of a row; longer rows are left out and counted.'),
    stepsPerCheckpoint: z.int().min(1).default(20).describe('A killed run continues from the last checkpoint.'),
    checkpoint: z
      .enum(['last', 'best'])
      .exactOptional()
      .describe(
        'Which weights along the training are the student: the last (the default), or those of the evaluation with the least loss on the development rows.',
      ),
    stepsPerEvaluation: z.int().min(1).default(20).describe('How often the loss on the development rows is taken, if there are any.'),
  })
  .describe('How the student is trained.');

export type TrainingConfig = z.output<typeof trainingSchema>;

const precisionSchema = z.enum(['float32', 'int8']);

/** Where arithmetic runs. Nothing here changes what is computed, but for rounding. */
export const engineSchema = z
  .strictObject({
    device: z.enum(deviceNames).default('cpu').describe('`retort doctor --device NAME` says whether this machine has it.'),
    precision: precisionSchema
      .default('float32')
      .describe('What the frozen base is held in while training: int8 costs less where the processor has 8-bit products.'),
    inferencePrecision: precisionSchema.default('float32').describe('What it is held in while answers are drawn and measured.'),
    activations: z
      .enum(['kept', 'recomputed'])
      .exactOptional()
      .describe(
        'What a training step keeps for its way back: all, or what goes into each layer, which is then computed once more, for a fraction of the memory. Without it, all where it fits. The gradients are the same.',
      ),
    threadCount: z.int().min(1).exactOptional().describe('Threads of the arithmetic; without it, the cores are shared among the workers.'),
    workers: z.int().min(1).default(1).describe('Arms that are trained and measured at once, each in a thread with its own memory.'),
  })
  .describe('Where and how exactly arithmetic runs.');

export type EngineConfig = z.output<typeof engineSchema>;
