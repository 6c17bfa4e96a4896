// Fine-tunes a toy, in this process or as a child that may be killed: `node toy-fine-tune.ts '{"model", "folder", …}'`.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256OfFile } from '../src/base/folders.ts';
import { randomFrom } from '../src/base/random.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import type { LoraSpecification, TokenRow } from '../src/engines/engine.ts';
import { type FineTuneOptions, type FineTuneResult, type FineTuneSettings, fineTune } from '../src/methods/fine-tune.ts';
import { writeAdapter } from '../src/weights/adapter.ts';

export interface ToyTraining {
  readonly model: string;
  /** Gets checkpoints, metrics.jsonl and the adapter. */
  readonly folder: string;
  readonly seed?: number;
  readonly key?: string;
  readonly settings?: Partial<FineTuneSettings>;
  readonly dropout?: number;
  readonly developmentRowCount?: number;
}

export const toySettings: FineTuneSettings = {
  epochs: 3,
  rowsPerStep: 4,
  learningRate: 0.02,
  schedule: 'cosine',
  warmupShare: 0.1,
  optimiser: { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 },
  maximumNorm: 1,
  loss: { name: 'cross-entropy' },
  stepsPerCheckpoint: 2,
  stepsPerEvaluation: 4,
};

export const toyLora = (seed: number, dropout = 0): LoraSpecification => ({
  rank: 4,
  alpha: 8,
  targets: ['q_proj', 'v_proj', 'gate_proj', 'down_proj'],
  dropout,
  seed,
});

/** Rows of 20 to 60 tokens; the first third is a prompt. Few different tokens, so that there is something to learn. */
export const toyRows = (count: number, seed = 1): TokenRow[] => {
  const random = randomFrom(seed, 'toy rows');
  return Array.from({ length: count }, () => {
    const length = 20 + random.integer(41);
    return {
      tokens: Array.from({ length }, () => 97 + random.integer(8)),
      weights: Array.from({ length }, (_, index) => (index < length / 3 ? 0 : 1)),
    };
  });
};

export const openToyEngine = (model: string, seed: number, dropout = 0) =>
  createEngine({
    modelFolder: model,
    initialisation: { from: 'folder' },
    parameters: { kind: 'lora', ...toyLora(seed, dropout) },
    precision: 'float32',
    device: 'cpu',
    layout: 'thread',
    threadCount: 1,
  });

/** SHA-256 of every file in a folder, by name. */
export const hashesOf = async (folder: string): Promise<Record<string, string>> => {
  const names = (await readdir(folder)).sort();
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await sha256OfFile(join(folder, name))] as const)));
};

/** Trains to the end and writes the adapter; what it returns must not depend on how often it was interrupted. */
export const trainToy = async (
  training: ToyTraining,
  more: Pick<FineTuneOptions, 'signal' | 'onProgress'> = {},
): Promise<{ readonly result: FineTuneResult; readonly adapter: Record<string, string> }> => {
  const { model, folder, seed = 1, key = 'toy', settings = {}, dropout = 0, developmentRowCount = 3 } = training;
  const engine = await openToyEngine(model, seed, dropout);
  try {
    const result = await fineTune({
      engine,
      rows: toyRows(11),
      developmentRows: toyRows(developmentRowCount, 2),
      settings: { ...toySettings, ...settings },
      seed,
      key,
      checkpoints: join(folder, 'checkpoints'),
      metrics: join(folder, 'metrics.jsonl'),
      ...more,
    });
    const adapter = join(folder, 'adapter');
    await writeAdapter(adapter, { parameters: await engine.parameters(), lora: toyLora(seed, dropout), baseModel: 'toy' });
    return { result, adapter: await hashesOf(adapter) };
  } finally {
    await engine.release();
  }
};

if (import.meta.main) {
  const training: ToyTraining = JSON.parse(process.argv[2] ?? '{}');
  await trainToy(training, { onProgress: ({ doneCount }) => console.log(doneCount) });
}
