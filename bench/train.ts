import { UserError } from '../src/base/errors.ts';
import golden from '../test/golden/smollm2.json' with { type: 'json' };
import type { Benchmark } from './benchmark.ts';
import { contest, type Entry, entryOf } from './contest.ts';
import { type ContestantProcess, startOurs, startRival } from './contestant-process.ts';
import { type Contestant, fastest, pairedRatio, peakMemoryOf, speedOf, type Target } from './figures.ts';

const rank = 8;
const alpha = 16;
const stepsPerRound = 2;
const warmupSteps = 2;

interface Workload {
  readonly title: string;
  readonly rowCount: number;
  readonly rowLength: number;
  readonly ours: readonly Mode[];
  readonly rivalModes: readonly string[];
  readonly targets: (contestants: readonly Contestant[]) => Target[];
}

interface Mode {
  readonly precision: 'float32' | 'int8';
  readonly activations?: 'recomputed';
}

const nameOf = ({ precision, activations }: Mode): string => `retort ${precision}${activations === undefined ? '' : `, ${activations}`}`;

/** Rows of word problems, one after the other, with the loss on the second half. */
const trainingRows = ({ rowCount, rowLength }: Workload) => {
  const text = golden.rows.flatMap(({ tokens }) => tokens);
  return Array.from({ length: rowCount }, (_, row) => ({
    tokens: Array.from({ length: rowLength }, (_, index) => text[(row * rowLength + index) % text.length] as number),
    weights: Array.from({ length: rowLength }, (_, index) => (index < rowLength / 2 ? 0 : 1)),
  }));
};

const eagerModes = ['float32', 'bfloat16', 'autocast'];
const compiledModes = eagerModes.map((mode) => `compiled-${mode}`);
const checkpointedModes = eagerModes.map((mode) => `checkpointed-${mode}`);

const named = (contestants: readonly Contestant[], ...names: readonly string[]): Contestant | undefined =>
  fastest(contestants.filter(({ name }) => names.includes(name)));
const peft = (modes: readonly string[]): string[] => modes.map((mode) => `PEFT ${mode}`);

/** Speed at least, and peak memory at most, so many times a rival's. */
const against = (name: string, ours: Contestant | undefined, theirs: Contestant | undefined, speed: number, memory: number): Target[] => [
  { name: `train, ${name}`, measured: pairedRatio(ours, theirs, speedOf), bound: 'at least', value: speed },
  { name: `train, ${name}, peak memory`, measured: pairedRatio(ours, theirs, peakMemoryOf), bound: 'at most', value: memory },
];

const workloads: Readonly<Record<string, Workload>> = {
  batch: {
    title: '4 × 256 tokens a step',
    ...{ rowCount: 4, rowLength: 256 },
    ours: [{ precision: 'float32' }, { precision: 'int8' }, { precision: 'int8', activations: 'recomputed' }],
    rivalModes: eagerModes,
    targets: (contestants) => {
      const best = named(contestants, 'retort float32', 'retort int8');
      const eager = named(contestants, ...peft(eagerModes));
      return [
        ...against('float32 base, against PEFT float32', named(contestants, 'retort float32'), named(contestants, 'PEFT float32'), 1.5, 1),
        ...against("our best against PEFT's best eager mode", best, eager, 2.7, 1),
        ...against("recomputed, against PEFT's best eager mode", named(contestants, 'retort int8, recomputed'), eager, 1.4, 0.45),
        ...against("our best against PEFT's best with torch.compile", best, named(contestants, ...peft(compiledModes)), 1.4, 1.15),
      ];
    },
  },
  long: {
    title: '1 × 2,048 tokens a step',
    ...{ rowCount: 1, rowLength: 2048 },
    ours: [{ precision: 'int8', activations: 'recomputed' }],
    rivalModes: checkpointedModes,
    targets: (contestants) =>
      against(
        "one row of 2,048 tokens, against PEFT's best with checkpointing",
        named(contestants, 'retort int8, recomputed'),
        named(contestants, ...peft(checkpointedModes)),
        2,
        0.6,
      ),
  },
};

/** LoRA steps of SmolLM2-135M beside PEFT's, of the workloads that are named, or all. */
export const train: Benchmark = async ({ parts, modelFolder, python, threadCount, withCompiled, roundCount, log }) => {
  const unknown = parts.find((part) => workloads[part] === undefined);
  if (unknown !== undefined) throw new UserError(`train has no part "${unknown}". Known: ${Object.keys(workloads).join(', ')}`);
  const chosen = Object.entries(workloads).filter(([name]) => parts.length === 0 || parts.includes(name));
  let versions: Readonly<Record<string, string>> = {};
  const tables: { title: string; contestants: Contestant[] }[] = [];
  const targets: Target[] = [];
  for (const [, workload] of chosen) {
    const options = { modelFolder, rank, alpha, targets: golden.lora.targets, threadCount, rows: trainingRows(workload) };
    const request = { warmup: warmupSteps, steps: stepsPerRound };
    const processes: ContestantProcess[] = [];
    const entries: Entry[] = [];
    try {
      for (const mode of workload.ours) {
        const ours = await startOurs('retort-train.ts', { ...options, ...mode });
        processes.push(ours);
        entries.push(entryOf(nameOf(mode), ours, request));
      }
      if ('python' in python) {
        const rival = await startRival(python.python, 'train_peft.py', options);
        processes.push(rival);
        versions = rival.versions;
        const modes = [...workload.rivalModes, ...(withCompiled ? compiledModes : [])];
        entries.push(...modes.map((mode) => entryOf(`PEFT ${mode}`, rival, { ...request, mode })));
      }
      const contestants = await contest(entries, roundCount, log);
      tables.push({ title: `train, ${workload.title}`, contestants });
      targets.push(...workload.targets(contestants));
    } finally {
      for (const process of processes) await process.stop();
    }
  }
  return {
    workload:
      `SmolLM2-135M-Instruct, LoRA rank ${rank} on all seven projections, loss on half of the tokens, AdamW; ` +
      `${stepsPerRound} steps a round after ${warmupSteps} to warm up`,
    versions,
    tables,
    targets,
  };
};
