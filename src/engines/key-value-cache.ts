import { elementCount, type HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { masked } from '../nn/attention.ts';
import type { Program, Tensor } from '../runtime/program.ts';
import { cacheName, newName } from './step-graphs.ts';

/** The keys and values of the sequences of a batch, each in a place of its own, on the host or on a device. */
export interface KeyValueCache {
  readonly batch: number;
  readonly capacity: number;
  /** [batch · capacity]: 0 where a position is filled, a large negative number where not. */
  readonly mask: Float32Array;
  /**
   * Runs a program that reads a prompt, or one that decodes and is given the cache, and lays the new keys and values into places.
   * @returns log-probabilities, [rows · vocabulary]
   */
  run(program: Program, inputs: Readonly<Record<string, Tensor>>, layings: readonly Laying[]): Promise<Float32Array>;
  /** Lays what a program put out into places; absent where that never comes to the host. */
  lay?(outputs: KeyValues, layings: readonly Laying[]): void;
  /** Makes a place empty: what lies there is no longer seen. */
  clear(place: number): void;
  /** What a decoding program takes. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  release(): Promise<void>;
}

/** New keys and values by name, [rows, kvHeads, sequence, headWidth]. */
export type KeyValues = Readonly<Record<string, HostTensor>>;

export interface Laying {
  readonly place: number;
  /** The row of the outputs that goes into the place. */
  readonly from: number;
  /** Where in the row's sequence it begins; absent: at 0. */
  readonly start?: number;
  /** Where in the place the first of `count` positions goes. */
  readonly position: number;
  readonly count: number;
}

/** What `mask` and `clear` are wherever the cache lies. */
export const placeMask = (batch: number, capacity: number) => {
  const mask = new Float32Array(batch * capacity).fill(masked);
  return {
    mask,
    clear: (place: number): void => {
      mask.fill(masked, place * capacity, (place + 1) * capacity);
    },
    fill: ({ place, position, count }: Laying): void => {
      mask.fill(0, place * capacity + position, place * capacity + position + count);
    },
  };
};

/** A cache by name: keys [batch, kvHeads, headWidth, capacity], values [batch, kvHeads, capacity, headWidth]. */
export const hostCache = (decoder: Decoder, batch: number, capacity: number): KeyValueCache => {
  const { layerCount, kvHeadCount, headWidth } = decoder;
  const tensors: Record<string, HostTensor> = {};
  const zeros = (...shape: number[]): HostTensor => ({ dataType: 'float32', shape, data: new Float32Array(elementCount(shape)) });
  for (let layer = 0; layer < layerCount; layer++) {
    tensors[cacheName('key', layer)] = zeros(batch, kvHeadCount, headWidth, capacity);
    tensors[cacheName('value', layer)] = zeros(batch, kvHeadCount, capacity, headWidth);
  }
  const { mask, clear, fill } = placeMask(batch, capacity);
  const layAll = (outputs: KeyValues, layings: readonly Laying[]): void => {
    for (const laying of layings) {
      fill(laying);
      lay(decoder, outputs, tensors, capacity, laying);
    }
  };
  return {
    batch,
    capacity,
    mask,
    clear,
    inputs: tensors,
    lay: layAll,
    run: async (program, inputs, layings) => {
      const outputs = await program.run(inputs);
      layAll(outputs, layings);
      return (outputs.logProbabilities as HostTensor).data as Float32Array;
    },
    release: async () => undefined,
  };
};

const lay = (
  { layerCount, kvHeadCount, headWidth }: Decoder,
  outputs: KeyValues,
  tensors: KeyValues,
  capacity: number,
  { place, from, start: first = 0, position, count }: Laying,
): void => {
  for (let layer = 0; layer < layerCount; layer++) {
    const { data: newKeys, shape } = outputs[newName('key', layer)] as HostTensor & { readonly data: Float32Array };
    const newValues = (outputs[newName('value', layer)] as HostTensor).data as Float32Array;
    const keys = (tensors[cacheName('key', layer)] as HostTensor).data as Float32Array;
    const values = (tensors[cacheName('value', layer)] as HostTensor).data as Float32Array;
    const sequence = shape[2] as number;
    for (let head = 0; head < kvHeadCount; head++) {
      const start = ((from * kvHeadCount + head) * sequence + first) * headWidth;
      const base = (place * kvHeadCount + head) * capacity * headWidth;
      values.set(newValues.subarray(start, start + count * headWidth), base + position * headWidth);
      // Keys are held transposed: one column a position.
      for (let channel = 0; channel < headWidth; channel++) {
        const row = base + channel * capacity + position;
        for (let token = 0; token < count; token++) keys[row + token] = newKeys[start + token * headWidth + channel] as number;
      }
    }
  }
};
