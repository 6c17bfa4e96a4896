import { type Random, randomFrom } from '../base/random.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket } from './buckets.ts';
import type { Sample, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import type { KeyValueCache } from './key-value-cache.ts';
import { pickToken } from './pick-token.ts';

/** The programs that a sampler needs, compiled when first asked for. */
export interface SamplerPrograms {
  readonly decoder: Decoder;
  /** Trainable parameters, which every program takes as inputs. */
  readonly parameters: Readonly<Record<string, HostTensor>>;
  prefill(sequence: number): Promise<Program>;
  decode(batch: number, capacity: number): Promise<Program>;
  cache(batch: number, capacity: number): Promise<KeyValueCache>;
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

/**
 * Decodes requests in a batch whose places are filled anew as sequences end. Each sequence reads only its own place of the cache and draws
 * from its own stream, so that its company changes nothing but rounding.
 */
export const sampleAll = async (
  programs: SamplerPrograms,
  requests: readonly SampleRequest[],
  options: SampleOptions,
  control: SampleControl,
): Promise<Sample[]> => {
  const longest = requests.reduce((most, { tokens }) => Math.max(most, tokens.length), 0);
  const batch = Math.min(requests.length, options.batchSize ?? defaultBatchSize);
  const cache = await programs.cache(batch, lengthBucket(longest + options.maximumTokens));
  try {
    return await sampleInto(cache, programs, requests, options, control);
  } finally {
    await cache.release();
  }
};

const defaultBatchSize = 32;

const sampleInto = async (
  cache: KeyValueCache,
  programs: SamplerPrograms,
  requests: readonly SampleRequest[],
  options: SampleOptions,
  { onSample, signal }: SampleControl,
): Promise<Sample[]> => {
  const { decoder } = programs;
  const samples: Sample[] = [];
  const queue = requests.map((request, index) => ({ request, index }));
  const { batch } = cache;
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
        if (advance(running, predicted)) cache.clear(place);
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
      cache.clear(place);
    });
  }
};

/** Runs a prompt, lays its keys and values into a place of the cache, and returns the log-probabilities after its last token. */
const prefill = async (
  programs: SamplerPrograms,
  tokens: readonly number[],
  cache: KeyValueCache,
  place: number,
): Promise<Float32Array> => {
  const sequence = lengthBucket(tokens.length);
  const program = await programs.prefill(sequence);
  const filled = new Int32Array(sequence);
  filled.set(tokens);
  return cache.run(
    program,
    {
      ...programs.parameters,
      tokens: { dataType: 'int32', shape: [1, sequence], data: filled },
      sources: { dataType: 'int32', shape: [1], data: Int32Array.of(tokens.length - 1) },
    },
    [{ place, from: 0, position: 0, count: tokens.length }],
  );
};

/**
 * One step for every place; places that are empty compute something that nobody reads. The new keys and values are laid into the cache.
 * Returns log-probabilities, [batch · vocabulary].
 */
const decode = async (programs: SamplerPrograms, cache: KeyValueCache, places: readonly (Running | undefined)[]): Promise<Float32Array> => {
  const { batch, capacity, mask } = cache;
  // Asked for at every step: prompts of many lengths want many programs, and one that is not used for long is released.
  const program = await programs.decode(batch, capacity);
  return cache.run(
    program,
    {
      ...programs.parameters,
      ...cache.inputs,
      mask: { dataType: 'float32', shape: [batch, 1, 1, capacity], data: mask },
      tokens: { dataType: 'int32', shape: [batch, 1], data: Int32Array.from(places, (running) => running?.tokens.at(-1) ?? 0) },
      positions: { dataType: 'int64', shape: [batch, 1], data: BigInt64Array.from(places, (running) => BigInt(running?.length ?? 0)) },
    },
    places.flatMap((running, place) => (running === undefined ? [] : [{ place, from: place, position: running.length, count: 1 }])),
  );
};
