import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark } from './benchmark.ts';
import { contest, type Entry, entryOf } from './contest.ts';
import { type ContestantProcess, startOurs, startRival } from './contestant-process.ts';
import { type Contestant, fastest, pairedRatio, peakMemoryOf, speedOf, type Target } from './figures.ts';

const rowCount = 4;
const rowLength = 256;
const rank = 8;
const alpha = 16;
const stepsPerRound = 2;
const warmupSteps = 2;

/** Four rows of 256 tokens of word problems, one after the other, with the loss on the second half. */
const trainingRows = () => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: rowCount }, (_, row) => ({
    tokens: Array.from({ length: rowLength }, (_, index) => text[(row * rowLength + index) % text.length] as number),
    weights: Array.from({ length: rowLength }, (_, index) => (index < rowLength / 2 ? 0 : 1)),
  }));
};

/** Precisions of the engine that are measured. */
const precisions = ['float32', 'int8'] as const;
const eagerModes = ['float32', 'bfloat16', 'autocast'] as const;
const compiledModes = eagerModes.map((mode) => `compiled-${mode}`);

const requestFor = (mode: string) => ({ mode, warmup: warmupSteps, steps: stepsPerRound });

/** The targets of the training work; those of other workloads and precisions join when these can be run. */
const targetsOf = (contestants: readonly Contestant[]): Target[] => {
  const named = (...names: readonly string[]) => fastest(contestants.filter(({ name }) => names.includes(name)));
  const float32 = [named('retort float32'), named('PEFT float32')] as const;
  const best = named(...precisions.map((precision) => `retort ${precision}`));
  const eager = named(...eagerModes.map((mode) => `PEFT ${mode}`));
  const compiled = named(...compiledModes.map((mode) => `PEFT ${mode}`));
  return [
    { name: 'train, float32 base, against PEFT float32', measured: pairedRatio(...float32, speedOf), bound: 'at least', value: 1.5 },
    {
      name: 'train, float32 base, peak memory against PEFT float32',
      measured: pairedRatio(...float32, peakMemoryOf),
      bound: 'at most',
      value: 1,
    },
    { name: "train, our best against PEFT's best eager mode", measured: pairedRatio(best, eager, speedOf), bound: 'at least', value: 2.7 },
    { name: 'train, the same, peak memory', measured: pairedRatio(best, eager, peakMemoryOf), bound: 'at most', value: 1 },
    {
      name: "train, our best against PEFT's best with torch.compile",
      measured: pairedRatio(best, compiled, speedOf),
      bound: 'at least',
      value: 1.4,
    },
    {
      name: 'train, the same, peak memory',
      measured: pairedRatio(best, compiled, peakMemoryOf),
      bound: 'at most',
      value: 1.15,
    },
  ];
};

/** LoRA steps of SmolLM2-135M beside PEFT's. */
export const train: Benchmark = async ({ modelFolder, python, threadCount, withCompiled, roundCount, log }) => {
  const options = { modelFolder, rank, alpha, targets: golden.lora.targets, threadCount, rows: trainingRows() };
  const processes: ContestantProcess[] = [];
  const entries: Entry[] = [];
  try {
    for (const precision of precisions) {
      const ours = await startOurs('retort-train.ts', { ...options, precision });
      processes.push(ours);
      entries.push(entryOf(`retort ${precision}`, ours, requestFor(precision)));
    }
    const rival = 'python' in python ? await startRival(python.python, 'train_peft.py', options) : undefined;
    if (rival !== undefined) {
      processes.push(rival);
      const modes = [...eagerModes, ...(withCompiled ? compiledModes : [])];
      entries.push(...modes.map((mode) => entryOf(`PEFT ${mode}`, rival, requestFor(mode))));
    }
    const contestants = await contest(entries, roundCount, log);
    return {
      workload:
        `SmolLM2-135M-Instruct, LoRA rank ${rank} on all seven projections, ${rowCount} × ${rowLength} tokens a step, loss on half of them, AdamW; ` +
        `${stepsPerRound} steps a round after ${warmupSteps} to warm up`,
      versions: rival?.versions ?? {},
      tables: [{ title: 'train', contestants }],
      targets: targetsOf(contestants),
    };
  } finally {
    for (const process of processes) await process.stop();
  }
};
