import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark } from './benchmark.ts';
import { contest, entryOf } from './contest.ts';
import { type ContestantProcess, startOurs, startRival } from './contestant-process.ts';
import { type Contestant, fastest, pairedRatio, speedOf, type Target } from './figures.ts';

const promptLength = 64;
const newTokenCount = 64;
const batchSizes = [1, 8, 32] as const;
const precisions = ['float32', 'int8'] as const;
const rivalModes = ['float32', 'bfloat16'] as const;

/** Prompts of one length, so that nobody pays for padding: windows of word problems, each beginning elsewhere. */
const promptsOf = (count: number): number[][] => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: count }, (_, prompt) =>
    Array.from({ length: promptLength }, (_, index) => text[(prompt * 29 + index) % text.length] as number),
  );
};

const targetsOf = (count: number, contestants: readonly Contestant[]): Target[] => {
  const of = (tool: string) => fastest(contestants.filter(({ name }) => name.startsWith(tool)));
  // A throw-away prototype reached 1.6 times transformers' best mode in float32 at each of these sizes.
  return precisions.map((precision) => ({
    name: `generate, ${count} at once in ${precision}, against transformers' best mode`,
    measured: pairedRatio(of(`retort ${precision}`), of('transformers'), speedOf),
    bound: 'at least',
    value: 1.5,
  }));
};

/** Greedy decoding with SmolLM2-135M beside transformers' generate, at several batch sizes. Prompts are part of the time. */
export const generate: Benchmark = async ({ modelFolder, python, roundCount, threadCount, log }) => {
  const processes: ContestantProcess[] = [];
  try {
    const ours: { readonly name: string; readonly process: ContestantProcess }[] = [];
    for (const precision of precisions) {
      const process = await startOurs('retort-generate.ts', { modelFolder, threadCount, precision });
      processes.push(process);
      ours.push({ name: `retort ${precision}`, process });
    }
    const rival =
      'python' in python ? await startRival(python.python, 'generate_transformers.py', { modelFolder, threadCount }) : undefined;
    if (rival !== undefined) processes.push(rival);
    const tables: { title: string; contestants: Contestant[] }[] = [];
    for (const count of batchSizes) {
      const request = { prompts: promptsOf(count), newTokenCount };
      const entries = [
        ...ours.map(({ name, process }) => entryOf(name, process, request)),
        ...(rival === undefined ? [] : rivalModes.map((mode) => entryOf(`transformers ${mode}`, rival, { ...request, mode }))),
      ];
      log(`${count} at once: one round to warm up`);
      await contest(entries, 1, log);
      tables.push({ title: `generate, ${count} at once`, contestants: await contest(entries, roundCount, log) });
    }
    return {
      workload: `SmolLM2-135M-Instruct, greedy, prompts of ${promptLength} tokens, ${newTokenCount} new ones each; new tokens over the time of the whole call`,
      versions: rival?.versions ?? {},
      tables,
      targets: tables.flatMap(({ contestants }, index) => targetsOf(batchSizes[index] ?? 0, contestants)),
    };
  } finally {
    for (const process of processes) await process.stop();
  }
};
