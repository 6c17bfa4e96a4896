import { type Random, randomFrom } from '../base/random.ts';
import { elementCount, type HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { masked } from '../nn/attention.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket } from './buckets.ts';
import type { Sample, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import { pickToken } from './pick-token.ts';
import { cacheName, newName } from './step-graphs.ts';

/** The programs that a sampler needs, compiled when first asked for. */
export interface SamplerPrograms {
  readonly decoder: Decoder;
  /** Trainable parameters, which every program takes as inputs. */
  readonly parameters: Readonly<Record<string, HostTensor>>;
  prefill(sequence: number): Promise<Program>;
  decode(batch: number, capacity: number): Promise<Program>;
}

/** One sequence being decoded in a place of the batch. */
interface Running {
  readonly requestIndex: number;
  readonly random: Random;
  readonly tokens: number[];
  readonly logProbabilities: number[];
  /** Positions in the cache. */
  length: number;
}

/** A batch's key-value cache, by name: keys [batch, kvHeads, headWidth, capacity], values [batch, kvHeads, capacity, headWidth]. */
interface Cache {
  readonly batch: number;
  readonly capacity: number;
  readonly tensors: Readonly<Record<string, HostTensor>>;
  /** [batch · capacity]: 0 where a position is filled, a large negative number where not. */
  readonly mask: Float32Array;
}

/**
 * Decodes requests in a batch whose places are filled anew as sequences end. Each sequence reads only its own place of the cache and draws
 * from its own stream, so that its company changes nothing but rounding.
 */
export const sampleAll = async (
  programs: SamplerPrograms,
  requests: readonly SampleRequest[],
  options: SampleOptions,
  { onSample, signal }: SampleControl,
): Promise<Sample[]> => {
  const { decoder } = programs;
  const samples: Sample[] = [];
  const queue = requests.map((request, index) => ({ request, index }));
  const longest = requests.reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
  const batch = Math.min(requests.length, options.batchSize ?? defaultBatchSize);
  const cache = emptyCache(decoder, batch, lengthBucket(longest + options.maximumTokens));
  const places: (Running | undefined)[] = Array.from({ length: batch });

  /** Takes the next token into a sequence; true when that ended it. */
  const advance = (running: Running, logProbabilities: Float32Array): boolean => {
    const { token, logProbability } = pickToken(logProbabilities, options, running.random);
    running.tokens.push(token);
    running.logProbabilities.push(logProbability);
    const stopped = options.endTokens.includes(token);
    if (!stopped && running.tokens.length < options.maximumTokens) return false;
    const { tokens, logProbabilities: drawn } = running;
    const sample: Sample = { tokens, logProbabilities: drawn, finishReason: stopped ? 'stop' : 'length' };
    samples[running.requestIndex] = sample;
    onSample?.(running.requestIndex, sample);
    return true;
  };

  for (;;) {
    signal?.throwIfAborted();
    for (let place = 0; place < batch; place++) {
      while (places[place] === undefined) {
        const next = queue.shift();
        if (next === undefined) break;
        const running: Running = {
          requestIndex: next.index,
          random: randomFrom(next.request.seed, 'sample'),
          tokens: [],
          logProbabilities: [],
          length: next.request.tokens.length,
        };
        const predicted = await prefill(programs, next.request.tokens, cache, place);
        if (advance(running, predicted)) clearPlace(cache, place);
        else places[place] = running;
      }
    }
    if (places.every((place) => place === undefined)) return samples;
    const predicted = await decode(programs, cache, places);
    places.forEach((running, place) => {
      if (running === undefined) return;
      running.length++;
      const own = predicted.subarray(place * decoder.vocabularySize, (place + 1) * decoder.vocabularySize);
      if (!advance(running, own)) return;
      places[place] = undefined;
      clearPlace(cache, place);
    });
  }
};

const defaultBatchSize = 32;

const emptyCache = ({ layerCount, kvHeadCount, headWidth }: Decoder, batch: number, capacity: number): Cache => {
  const tensors: Record<string, HostTensor> = {};
  const zeros = (...shape: number[]): HostTensor => ({ dataType: 'float32', shape, data: new Float32Array(elementCount(shape)) });
  for (let layer = 0; layer < layerCount; layer++) {
    tensors[cacheName('key', layer)] = zeros(batch, kvHeadCount, headWidth, capacity);
    tensors[cacheName('value', layer)] = zeros(batch, kvHeadCount, capacity, headWidth);
  }
  return { batch, capacity, tensors, mask: new Float32Array(batch * capacity).fill(masked) };
};

/** Makes a place of the cache empty: what lies there is no longer seen. */
const clearPlace = ({ mask, capacity }: Cache, place: number): void => {
  mask.fill(masked, place * capacity, (place + 1) * capacity);
};

/** Runs a prompt, lays its keys and values into a place of the cache, and returns the log-probabilities after its last token. */
const prefill = async (programs: SamplerPrograms, tokens: readonly number[], cache: Cache, place: number): Promise<Float32Array> => {
  const { decoder } = programs;
  const sequence = lengthBucket(tokens.length);
  const program = await programs.prefill(sequence);
  const filled = new Int32Array(sequence);
  filled.set(tokens);
  const outputs = await program.run({
    ...programs.parameters,
    tokens: { dataType: 'int32', shape: [1, sequence], data: filled },
    sources: { dataType: 'int32', shape: [1], data: Int32Array.of(tokens.length - 1) },
  });
  layIntoCache(decoder, outputs, { cache, place, from: 0, sequence, position: 0, count: tokens.length });
  return (outputs.logProbabilities as HostTensor).data as Float32Array;
};

/**
 * One step for every place; places that are empty compute something that nobody reads. The new keys and values are laid into the cache.
 * Returns log-probabilities, [batch · vocabulary].
 */
const decode = async (programs: SamplerPrograms, cache: Cache, places: readonly (Running | undefined)[]): Promise<Float32Array> => {
  const { decoder } = programs;
  // Asked for at every step: prompts of many lengths want many programs, and one that is not used for long is released.
  const program = await programs.decode(cache.batch, cache.capacity);
  const outputs = await program.run({
    ...programs.parameters,
    ...cache.tensors,
    mask: { dataType: 'float32', shape: [cache.batch, 1, 1, cache.capacity], data: cache.mask },
    tokens: { dataType: 'int32', shape: [cache.batch, 1], data: Int32Array.from(places, (running) => running?.tokens.at(-1) ?? 0) },
    positions: { dataType: 'int64', shape: [cache.batch, 1], data: BigInt64Array.from(places, (running) => BigInt(running?.length ?? 0)) },
  });
  places.forEach((running, place) => {
    if (running !== undefined)
      layIntoCache(decoder, outputs, { cache, place, from: place, position: running.length, count: 1, sequence: 1 });
  });
  return (outputs.logProbabilities as HostTensor).data as Float32Array;
};

interface Laying {
  readonly cache: Cache;
  readonly place: number;
  /** The row of the outputs, [rows, kvHeads, sequence, headWidth], that goes into the place. */
  readonly from: number;
  readonly sequence: number;
  /** Where in the place the first of `count` positions goes. */
  readonly position: number;
  readonly count: number;
}

const layIntoCache = (
  { layerCount, kvHeadCount, headWidth }: Decoder,
  outputs: Readonly<Record<string, HostTensor>>,
  { cache, place, from, sequence, position, count }: Laying,
): void => {
  const { capacity, mask } = cache;
  mask.fill(0, place * capacity + position, place * capacity + position + count);
  for (let layer = 0; layer < layerCount; layer++) {
    const newKeys = (outputs[newName('key', layer)] as HostTensor).data as Float32Array;
    const newValues = (outputs[newName('value', layer)] as HostTensor).data as Float32Array;
    const keys = (cache.tensors[cacheName('key', layer)] as HostTensor).data as Float32Array;
    const values = (cache.tensors[cacheName('value', layer)] as HostTensor).data as Float32Array;
    for (let head = 0; head < kvHeadCount; head++) {
      const start = (from * kvHeadCount + head) * sequence * headWidth;
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
