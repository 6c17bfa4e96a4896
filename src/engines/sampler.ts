import { type Random, randomFrom } from '../base/random.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket } from './buckets.ts';
import type { Sample, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import type { KeyValueCache } from './key-value-cache.ts';
import { pickToken } from './pick-token.ts';
import { type PlacedPrompt, type PrefillPrograms, packedReader, singleReader } from './prompt-reader.ts';

/** The programs that a sampler needs, compiled when first asked for. */
export interface SamplerPrograms extends PrefillPrograms {
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
  const prompts = requests.map(({ tokens }) => tokens);
  const reader = cache.lay === undefined ? singleReader(programs, cache) : packedReader(programs, cache.lay, prompts);

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
    for (let free = emptyPlaces(places); free.length > 0 && queue.length > 0; free = emptyPlaces(places)) {
      const waiting = queue.slice(0, free.length).map(({ request }, index) => ({ place: free[index] as number, tokens: request.tokens }));
      const read = waiting.slice(0, reader.countIn(waiting));
      const predicted = await reader.read(read);
      queue.splice(0, read.length).forEach(({ request, index: requestIndex }, index) => {
        const random = randomFrom(request.seed, 'sample');
        const running: Running = { requestIndex, random, tokens: [], logProbabilities: [], length: request.tokens.length };
        const { place } = read[index] as PlacedPrompt;
        if (advance(running, predicted[index] as Float32Array)) cache.clear(place);
        else places[place] = running;
      });
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

const emptyPlaces = (places: readonly (Running | undefined)[]): number[] =>
  places.flatMap((running, place) => (running === undefined ? [place] : []));

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
