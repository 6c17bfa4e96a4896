import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineSpecification, ParameterSelection, ParameterSet } from '../../src/engines/engine.ts';
import { openSafetensors } from '../../src/weights/safetensors.ts';

const folder = import.meta.dirname;

/** A file or folder of golden numbers. */
export const goldenPath = (...parts: readonly string[]): string => join(folder, ...parts);

/** All tensors of a safetensors file among the golden numbers, or of those whose names start with `prefix`, without it. */
export const goldenTensors = async (fileName: string, prefix = ''): Promise<ParameterSet> => {
  const source = await openSafetensors(goldenPath(fileName));
  try {
    const names = [...source.names].filter(([name]) => name.startsWith(prefix));
    const entries = names.map(async ([name, { shape }]) => [name.slice(prefix.length), { shape, data: await source.read(name) }] as const);
    return Object.fromEntries(await Promise.all(entries));
  } finally {
    await source.close();
  }
};

/** A tensor that must be there. */
export const tensorOf = (tensors: ParameterSet, name: string): Float32Array => {
  const found = tensors[name];
  if (found === undefined) throw new Error(`No tensor ${name}; there are ${Object.keys(tensors).join(', ')}`);
  return found.data;
};

/** The LoRA that tiny-lora/ was written with; where A and B come from its files, the seed does not matter. */
export const tinyLoraOfSeed = (seed: number): Extract<ParameterSelection, { kind: 'lora' }> => ({
  kind: 'lora',
  rank: 4,
  alpha: 8,
  targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
  dropout: 0,
  seed,
});

export const tinyLora = tinyLoraOfSeed(1);

/** An engine of one of the tiny models, by default untrained, in this thread. */
export const tinySpecification = (changes: Partial<EngineSpecification> = {}): EngineSpecification => ({
  modelFolder: goldenPath('tiny-llama'),
  initialisation: { from: 'folder' },
  parameters: { kind: 'none' },
  precision: 'float32',
  device: 'cpu',
  layout: 'thread',
  threadCount: 1,
  ...changes,
});

/** A copy of a model's folder whose config.json is spelt as transformers 4 wrote it. */
export const folderInOldSpelling = async (model: string): Promise<string> => {
  const copy = await mkdtemp(join(tmpdir(), 'retort-old-spelling-'));
  await writeFile(join(copy, 'config.json'), await readFile(goldenPath(model, 'config-old-spelling.json')));
  await writeFile(join(copy, 'model.safetensors'), await readFile(goldenPath(model, 'model.safetensors')));
  return copy;
};
