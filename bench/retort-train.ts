import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { createEngine, runnerCountFor } from '../src/engines/create-engine.ts';
import { serve } from './protocol.ts';

// Retort's LoRA step, timed: gradients, clipping, AdamW. The same requests as rivals/train_peft.py.

const optionsSchema = z.object({
  modelFolder: z.string(),
  rank: z.number(),
  alpha: z.number(),
  targets: z.array(z.string()),
  threadCount: z.number(),
  precision: z.enum(['float32', 'int8']),
  activations: z.enum(['kept', 'recomputed']).exactOptional(),
  rows: z.array(z.object({ tokens: z.array(z.number()), weights: z.array(z.number()) })),
});
const requestSchema = z.object({ warmup: z.number(), steps: z.number() });

await serve(async (given) => {
  const { modelFolder, rank, alpha, targets, threadCount, precision, activations, rows } = optionsSchema.parse(given);
  const engine = await createEngine({
    modelFolder,
    initialisation: { from: 'folder' },
    parameters: { kind: 'lora', rank, alpha, targets, dropout: 0, seed: 1 },
    precision,
    ...(activations !== undefined && { activations }),
    device: 'cpu',
    layout: 'worker',
    threadCount,
    runnerCount: runnerCountFor(threadCount),
  });
  const optimiser = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 } as const;
  const step = async (): Promise<void> => {
    const { tokenCount } = await engine.forwardBackward(rows, { name: 'cross-entropy' });
    await engine.optimStep({ optimiser, learningRate: 1e-4, tokenCount, maximumNorm: 1 });
  };
  return {
    measure: async (content) => {
      const { warmup, steps } = requestSchema.parse(content);
      for (let index = 0; index < warmup; index++) await step();
      const begin = performance.now();
      for (let index = 0; index < steps; index++) await step();
      const seconds = (performance.now() - begin) / 1000;
      return { seconds, tokenCount: steps * rows.reduce((sum, { tokens }) => sum + tokens.length, 0) };
    },
    release: () => engine.release(),
  };
});
