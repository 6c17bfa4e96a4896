import { performance } from 'node:perf_hooks';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine, EngineSpecification, TokenRow } from '../src/engines/engine.ts';
import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark, BenchmarkOptions } from './benchmark.ts';
import { contest, type Entry } from './contest.ts';
import { type Contestant, fastest, pairedRatio } from './figures.ts';
import { peakMemoryBytes, resetPeakMemory } from './machine.ts';
import { type Rival, startRival } from './rival.ts';

const rowCount = 4;
const rowLength = 256;
const rank = 8;
const alpha = 16;
const stepsPerRound = 2;
const warmupSteps = 2;

/** Four rows of 256 tokens of word problems, one after the other, with the loss on the second half. */
const trainingRows = (): TokenRow[] => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: rowCount }, (_, row) => ({
    tokens: Array.from({ length: rowLength }, (_, index) => text[(row * rowLength + index) % text.length] as number),
    weights: Array.from({ length: rowLength }, (_, index) => (index < rowLength / 2 ? 0 : 1)),
  }));
};

/** What of the engine is measured, by the name that the table gives it. */
const ourModes: Readonly<Record<string, Pick<EngineSpecification, 'precision'>>> = { float32: { precision: 'float32' } };

const eagerModes = ['float32', 'bfloat16', 'autocast'] as const;
const compiledModes = eagerModes.map((mode) => `compiled-${mode}`);

const specificationOf = (
  { modelFolder, threadCount }: BenchmarkOptions,
  mode: Pick<EngineSpecification, 'precision'>,
): EngineSpecification => ({
  modelFolder,
  initialisation: { from: 'folder' },
  parameters: { kind: 'lora', rank, alpha, targets: golden.lora.targets, dropout: 0, seed: 1 },
  device: 'cpu',
  layout: 'worker',
  threadCount,
  ...mode,
});

const step = async (engine: Engine, rows: readonly TokenRow[]): Promise<void> => {
  const { tokenCount } = await engine.forwardBackward(rows, { name: 'cross-entropy' });
  const optimiser = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 } as const;
  await engine.optimStep({ optimiser, learningRate: 1e-4, tokenCount, maximumNorm: 1 });
};

/** An engine is made for each round and released after it, so that its memory is not counted with another's. */
const ourEntry = (options: BenchmarkOptions, name: string, mode: Pick<EngineSpecification, 'precision'>): Entry => ({
  name: `retort ${name}`,
  measure: async () => {
    const rows = trainingRows();
    await resetPeakMemory();
    const engine = await createEngine(specificationOf(options, mode));
    try {
      for (let index = 0; index < warmupSteps; index++) await step(engine, rows);
      const begin = performance.now();
      for (let index = 0; index < stepsPerRound; index++) await step(engine, rows);
      const seconds = (performance.now() - begin) / 1000;
      return { tokensPerSecond: (stepsPerRound * rowCount * rowLength) / seconds, peakMemoryBytes: peakMemoryBytes() };
    } finally {
      await engine.release();
    }
  },
});

const rivalEntry = (rival: Rival, mode: string): Entry => ({
  name: `PEFT ${mode}`,
  measure: async () => {
    const { seconds, tokenCount, peakMemoryBytes: bytes } = await rival.measure({ mode, warmup: warmupSteps, steps: stepsPerRound });
    return { tokensPerSecond: tokenCount / seconds, peakMemoryBytes: bytes };
  },
});

const targetsOf = (contestants: readonly Contestant[]) => {
  const named = (name: string) => contestants.find((contestant) => contestant.name === name && contestant.measurements.length > 0);
  const ours = named('retort float32');
  const theirs = named('PEFT float32');
  const bestOfOurs = fastest(contestants.filter(({ name }) => name.startsWith('retort')));
  const bestEager = fastest(contestants.filter(({ name }) => eagerModes.some((mode) => name === `PEFT ${mode}`)));
  const bestCompiled = fastest(contestants.filter(({ name }) => name.startsWith('PEFT compiled')));
  const speed = ({ tokensPerSecond }: { tokensPerSecond: number }) => tokensPerSecond;
  const memory = ({ peakMemoryBytes: bytes }: { peakMemoryBytes: number }) => bytes;
  const ratio = (a: Contestant | undefined, b: Contestant | undefined, of: typeof speed | typeof memory) =>
    a && b && pairedRatio(a, b, ({ tokensPerSecond, peakMemoryBytes: bytes }) => of({ tokensPerSecond, peakMemoryBytes: bytes }));
  return [
    { name: 'train, float32 base, against PEFT float32', measured: ratio(ours, theirs, speed), bound: 'at least', value: 1.5 },
    { name: 'train, float32 base, peak memory against PEFT float32', measured: ratio(ours, theirs, memory), bound: 'at most', value: 1 },
    {
      name: "train, our best against PEFT's best eager mode",
      measured: ratio(bestOfOurs, bestEager, speed),
      bound: 'at least',
      value: 2.7,
    },
    ...(bestCompiled === undefined
      ? []
      : [
          {
            name: "train, our best against PEFT's best compiled mode",
            measured: ratio(bestOfOurs, bestCompiled, speed),
            bound: 'at least',
            value: 1.4,
          } as const,
        ]),
  ] as const;
};

/** LoRA steps of SmolLM2-135M beside PEFT's. */
export const train: Benchmark = async (options) => {
  const rows = trainingRows();
  const rival =
    'python' in options.python
      ? await startRival(options.python.python, 'train_peft.py', {
          modelFolder: options.modelFolder,
          rank,
          alpha,
          threadCount: options.threadCount,
          rows,
        })
      : undefined;
  try {
    const modes = [...eagerModes, ...(options.withCompiled ? compiledModes : [])];
    const entries = [
      ...Object.entries(ourModes).map(([name, mode]) => ourEntry(options, name, mode)),
      ...(rival === undefined ? [] : modes.map((mode) => rivalEntry(rival, mode))),
    ];
    const contestants = await contest(entries, options.roundCount, options.log);
    return {
      workload: `SmolLM2-135M-Instruct, LoRA rank ${rank} on all seven projections, ${rowCount} × ${rowLength} tokens a step, loss on half, AdamW; ${stepsPerRound} steps a round after ${warmupSteps} to warm up`,
      versions: rival?.versions ?? {},
      tables: [{ title: 'train', contestants }],
      targets: targetsOf(contestants),
    };
  } finally {
    await rival?.stop();
  }
};
