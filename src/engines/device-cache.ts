import { type Graph, graphOf } from '../graph/graph.ts';
import { float32, type HostTensor, type TensorType } from '../graph/tensor-type.ts';
import { input, type Value } from '../graph/value.ts';
import type { Decoder } from '../models/decoder.ts';
import { expand } from '../ops/broadcasting.ts';
import { where } from '../ops/elementwise.ts';
import { pad, transpose } from '../ops/shape.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { compileProgram } from '../runtime/onnx-program.ts';
import type { DeviceTensor, Program } from '../runtime/program.ts';
import { type KeyValueCache, type Laying, placeMask } from './key-value-cache.ts';
import { cacheName, newName } from './step-graphs.ts';

/**
 * A cache that stays on a device, and so do the keys and values that a run puts out: a program of its own lays them into it. A tensor cannot
 * be read and written by one program there, so what it puts out takes the cache's place: a copy a token, at the speed of the device's memory.
 */
export const deviceCache = async (device: DeviceName, decoder: Decoder, batch: number, capacity: number): Promise<KeyValueCache> => {
  const size = { decoder, batch, capacity };
  const programs = new Map<number, Promise<Program>>();
  const layingProgram = (sequence: number): Promise<Program> => {
    const known = programs.get(sequence);
    const program = known ?? compileProgram(layingGraph(size, sequence), { device, kept: new Set(cacheTypes(size).keys()) });
    programs.set(sequence, program);
    return program;
  };
  let tensors = await zeroTensors(device, size);
  const { mask, clear, fill } = placeMask(batch, capacity);
  const disposeAll = (list: Readonly<Record<string, DeviceTensor>>): void => {
    for (const tensor of Object.values(list)) tensor.dispose();
  };
  return {
    batch,
    capacity,
    mask,
    clear,
    get inputs() {
      return tensors;
    },
    run: async (program, inputs, layings) => {
      const { outputs, kept } = await program.runKeeping(inputs);
      const sequence = kept[newName('key', 0)]?.shape[2] ?? 1;
      const laid = await (await layingProgram(sequence)).runKeeping({ ...tensors, ...kept, ...newPositions(size, layings) });
      disposeAll(kept);
      disposeAll(tensors);
      tensors = renamed(laid.kept);
      for (const laying of layings) fill(laying);
      return (outputs.logProbabilities as HostTensor).data as Float32Array;
    },
    release: async () => {
      disposeAll(tensors);
      for (const program of programs.values()) await (await program).release();
    },
  };
};

export interface CacheSize {
  readonly decoder: Decoder;
  readonly batch: number;
  readonly capacity: number;
}

/** What takes the place of a cache's tensor. */
const next = (name: string): string => `next ${name}`;
const renamed = (kept: Readonly<Record<string, DeviceTensor>>): Record<string, DeviceTensor> =>
  Object.fromEntries(Object.entries(kept).map(([name, tensor]) => [name.slice(next('').length), tensor]));

/** The cache's tensors by the names under which programs put them out. */
const cacheTypes = ({ decoder, batch, capacity }: CacheSize): ReadonlyMap<string, TensorType> => {
  const { layerCount, kvHeadCount, headWidth } = decoder;
  return new Map(
    Array.from({ length: layerCount }, (_, layer) => [
      [next(cacheName('key', layer)), float32(batch, kvHeadCount, headWidth, capacity)] as const,
      [next(cacheName('value', layer)), float32(batch, kvHeadCount, capacity, headWidth)] as const,
    ]).flat(),
  );
};

/** Made there: a cache of zeros may be larger than all that is ever sent. */
const zeroTensors = async (device: DeviceName, size: CacheSize): Promise<Record<string, DeviceTensor>> => {
  const types = cacheTypes(size);
  // Given at the run, since ONNX Runtime would compute the zeros of a constant ahead and hold them in the program.
  const zero = input('zero', float32());
  const graph = graphOf(Object.fromEntries([...types].map(([name, { shape }]) => [name, expand(zero, shape)])));
  const program = await compileProgram(graph, { device, kept: new Set(types.keys()) });
  try {
    return renamed((await program.runKeeping({ zero: { ...float32(), data: Float32Array.of(0) } })).kept);
  } finally {
    await program.release();
  }
};

/** Lays [rows, kvHeads, sequence, headWidth] into the cache where positions are new: a row for each place, or one for the only place that is. */
export const layingGraph = ({ decoder, batch, capacity }: CacheSize, sequence: number): Graph => {
  const { layerCount, kvHeadCount, headWidth } = decoder;
  const isNewKey = input('isNewKey', { dataType: 'bool', shape: [batch, 1, 1, capacity] });
  const isNewValue = input('isNewValue', { dataType: 'bool', shape: [batch, 1, capacity, 1] });
  // A prompt's keys and values begin at position 0; one token's are repeated at all positions, of which one is new.
  const [rows, missing] = sequence === 1 ? [batch, 0] : [1, capacity - sequence];
  const outputs: Record<string, Value> = {};
  for (let layer = 0; layer < layerCount; layer++) {
    const fresh = (kind: 'key' | 'value'): Value => input(newName(kind, layer), float32(rows, kvHeadCount, sequence, headWidth));
    const [keyName, valueName] = [cacheName('key', layer), cacheName('value', layer)];
    const keys = pad(transpose(fresh('key'), [0, 1, 3, 2]), 3, 0, missing);
    const values = pad(fresh('value'), 2, 0, missing);
    outputs[next(keyName)] = where(isNewKey, keys, input(keyName, float32(batch, kvHeadCount, headWidth, capacity)));
    outputs[next(valueName)] = where(isNewValue, values, input(valueName, float32(batch, kvHeadCount, capacity, headWidth)));
  }
  return graphOf(outputs);
};

const newPositions = ({ batch, capacity }: CacheSize, layings: readonly Laying[]): Record<string, HostTensor> => {
  const data = new Uint8Array(batch * capacity);
  for (const { place, position, count } of layings) data.fill(1, place * capacity + position, place * capacity + position + count);
  return {
    isNewKey: { dataType: 'bool', shape: [batch, 1, 1, capacity], data },
    isNewValue: { dataType: 'bool', shape: [batch, 1, capacity, 1], data },
  };
};
