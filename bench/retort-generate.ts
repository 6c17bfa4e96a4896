import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { createEngine, runnerCountFor } from '../src/engines/create-engine.ts';
import { serve } from './protocol.ts';

// Retort's decoding, timed. The same requests as rivals/generate_transformers.py.

const optionsSchema = z.object({ modelFolder: z.string(), threadCount: z.number(), precision: z.enum(['float32', 'int8']) });
const requestSchema = z.object({ prompts: z.array(z.array(z.number())), newTokenCount: z.number() });

await serve(async (given) => {
  const { modelFolder, threadCount, precision } = optionsSchema.parse(given);
  const engine = await createEngine({
    modelFolder,
    initialisation: { from: 'folder' },
    parameters: { kind: 'none' },
    precision: 'float32',
    inferencePrecision: precision,
    device: 'cpu',
    layout: 'worker',
    threadCount,
    runnerCount: runnerCountFor(threadCount),
  });
  return {
    measure: async (content) => {
      const { prompts, newTokenCount } = requestSchema.parse(content);
      const begin = performance.now();
      const samples = await engine.sample(
        prompts.map((tokens, seed) => ({ tokens, seed })),
        { maximumTokens: newTokenCount, temperature: 0, topP: 1, endTokens: [], batchSize: prompts.length },
      );
      const seconds = (performance.now() - begin) / 1000;
      return { seconds, tokenCount: samples.reduce((sum, { tokens }) => sum + tokens.length, 0) };
    },
    release: () => engine.release(),
  };
});
