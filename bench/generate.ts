import { performance } from 'node:perf_hooks';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine } from '../src/engines/engine.ts';
import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark } from './benchmark.ts';
import { contest, type Entry } from './contest.ts';
import { type Contestant, fastest, pairedRatio } from './figures.ts';
import { peakMemoryBytes, resetPeakMemory } from './machine.ts';
import { type Rival, startRival } from './rival.ts';

const promptLength = 64;
const newTokenCount = 64;
const batchSizes = [1, 8, 32] as const;
const rivalModes = ['float32', 'bfloat16'] as const;

/** Prompts of one length, so that nobody pays for padding: windows of word problems, each beginning elsewhere. */
const promptsOf = (count: number): number[][] => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: count }, (_, prompt) =>
    Array.from({ length: promptLength }, (_, index) => text[(prompt * 29 + index) % text.length] as number),
  );
};

const generate = (engine: Engine, count: number) =>
  engine.sample(
    promptsOf(count).map((tokens, seed) => ({ tokens, seed })),
    { maximumTokens: newTokenCount, temperature: 0, topP: 1, endTokens: [], batchSize: count },
  );

const ourEntry = (engine: Engine, count: number): Entry => ({
  name: 'retort float32',
  measure: async () => {
    await resetPeakMemory();
    const begin = performance.now();
    const samples = await generate(engine, count);
    const seconds = (performance.now() - begin) / 1000;
    const tokenCount = samples.reduce((sum, { tokens }) => sum + tokens.length, 0);
    return { tokensPerSecond: tokenCount / seconds, peakMemoryBytes: peakMemoryBytes() };
  },
});

const rivalEntry = (rival: Rival, mode: string, count: number): Entry => ({
  name: `transformers ${mode}`,
  measure: async () => {
    const { seconds, tokenCount, peakMemoryBytes: bytes } = await rival.measure({ mode, prompts: promptsOf(count), newTokenCount });
    return { tokensPerSecond: tokenCount / seconds, peakMemoryBytes: bytes };
  },
});

const targetOf = (count: number, contestants: readonly Contestant[]) => {
  const ours = fastest(contestants.filter(({ name }) => name.startsWith('retort')));
  const theirs = fastest(contestants.filter(({ name }) => name.startsWith('transformers')));
  const measured = ours && theirs && pairedRatio(ours, theirs, ({ tokensPerSecond }) => tokensPerSecond);
  // The prototype of shared/research/engine-measurements.md reached 1.6 times transformers' best mode in float32 at each of these sizes.
  return { name: `generate, ${count} at once, against transformers' best mode`, measured, bound: 'at least', value: 1.5 } as const;
};

/** Greedy decoding with SmolLM2-135M beside transformers' generate, at several batch sizes. Prompts are part of the time. */
export const generation: Benchmark = async ({ modelFolder, python, roundCount, threadCount, log }) => {
  const rival = 'python' in python ? await startRival(python.python, 'generate_transformers.py', { modelFolder, threadCount }) : undefined;
  try {
    const engine = await createEngine({
      modelFolder,
      initialisation: { from: 'folder' },
      parameters: { kind: 'none' },
      precision: 'float32',
      device: 'cpu',
      layout: 'worker',
      threadCount,
    });
    try {
      const tables: { title: string; contestants: Contestant[] }[] = [];
      for (const count of batchSizes) {
        const rivals = rival === undefined ? [] : rivalModes.map((mode) => rivalEntry(rival, mode, count));
        const entries = [ourEntry(engine, count), ...rivals];
        log(`${count} at once: one round to warm up`);
        await contest(entries, 1, log);
        tables.push({ title: `generate, ${count} at once`, contestants: await contest(entries, roundCount, log) });
      }
      return {
        workload: `SmolLM2-135M-Instruct, greedy, prompts of ${promptLength} tokens, ${newTokenCount} new ones each; new tokens over the time of the whole call`,
        versions: rival?.versions ?? {},
        tables,
        targets: tables.map(({ contestants }, index) => targetOf(batchSizes[index] ?? 0, contestants)),
      };
    } finally {
      await engine.release();
    }
  } finally {
    await rival?.stop();
  }
};
