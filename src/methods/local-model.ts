import { availableParallelism } from 'node:os';
import { sha256 } from '../base/folders.ts';
import { createEngine, runnerCountFor } from '../engines/create-engine.ts';
import type { Engine, ParameterSelection } from '../engines/engine.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { loadModelText, type ModelText } from '../text/model-text.ts';
import { type Adapter, readAdapter } from '../weights/adapter.ts';
import { openModelFolder } from '../weights/model-folder.ts';
import type { Surroundings } from './surroundings.ts';

/** A model that answers, with or without an adapter: nothing of it is trained. Whoever opens it releases its engine. */
export interface LocalModel {
  readonly engine: Engine;
  readonly text: ModelText;
  /** Folder or .gguf file on this machine. */
  readonly path: string;
  /** Hash of the weights, base and adapter: answers of other weights are other answers. */
  readonly hash: string;
}

export interface LocalModelOptions {
  /** A folder, a .gguf file, or `hub:owner/name`. */
  readonly model: string;
  /** A PEFT adapter's folder. */
  readonly adapter?: string;
  readonly threadCount?: number;
  /** Absent: the CPU. */
  readonly device?: DeviceName;
}

/**
 * Opens a model to generate with, in a worker thread.
 *
 * @example
 * const model = await openLocalModel({ model: 'models/smollm2-135m-instruct', adapter: 'runs/first/students/teacher--lora--smollm2--seed-0/adapter' }, surroundings);
 */
export const openLocalModel = async (
  { model, adapter: adapterFolder, threadCount = availableParallelism(), device = 'cpu' }: LocalModelOptions,
  { resolveModel }: Pick<Surroundings, 'resolveModel'>,
): Promise<LocalModel> => {
  const path = await resolveModel(model);
  const { adapter, fingerprint } = await readBeside(path, adapterFolder);
  const text = await loadModelText(path);
  const parameters: ParameterSelection = adapter === undefined ? { kind: 'none' } : { kind: 'lora', ...adapter.lora, dropout: 0, seed: 0 };
  const engine = await createEngine({
    modelFolder: path,
    initialisation: { from: 'folder' },
    parameters,
    precision: 'float32',
    device,
    layout: 'worker',
    threadCount,
    runnerCount: runnerCountFor(threadCount),
  });
  try {
    if (adapter !== undefined) await engine.load(adapter.parameters);
    return { engine, text, path, hash: hashOf({ base: fingerprint, adapter: adapter === undefined ? null : adapterHash(adapter) }) };
  } catch (error) {
    await engine.release();
    throw error;
  }
};

/** The adapter, checked against the model that it is put on, and the hash of the model's files. */
const readBeside = async (
  path: string,
  adapterFolder: string | undefined,
): Promise<{ readonly adapter: Adapter | undefined; readonly fingerprint: string }> => {
  const { tensors } = await openModelFolder(path);
  try {
    const adapter = adapterFolder === undefined ? undefined : await readAdapter(adapterFolder, tensors.names);
    return { adapter, fingerprint: await tensors.fingerprint() };
  } finally {
    await tensors.close();
  }
};

const adapterHash = ({ parameters, lora }: Adapter): string => {
  const names = Object.keys(parameters).sort();
  const contents = names.map((name) => {
    const data = parameters[name]?.data ?? new Float32Array();
    return [name, sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))];
  });
  return hashOf({ rank: lora.rank, alpha: lora.alpha, contents });
};
