import { type Random, randomFrom } from '../base/random.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket } from './buckets.ts';
import type { Sample, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import { pickToken } from './pick-token.ts';
import { cacheName, presentName } from './step-graphs.ts';

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

/** A batch's key-value cache: `tensors` by cache name, [batch, kvHeads, capacity, headWidth] each. */
interface Cache {
  readonly batch: number;
  readonly capacity: number;
  readonly tensors: Readonly<Record<string, HostTensor>>;
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
  const longest = Math.max(...requests.map((request) => request.tokens.length));
  const batch = Math.min(requests.length, options.batchSize ?? defaultBatchSize);
  const cache = emptyCache(decoder, batch, lengthBucket(longest + options.maximumTokens));
  const program = await programs.decode(cache.batch, cache.capacity);
  const places: (Running | undefined)[] = Array.from({ length: batch });

  /** Takes the next token into a sequence; true when that ended it. */
  const advance = (running: Running, logits: Float32Array): boolean => {
    const { token, logProbability } = pickToken(logits, options, running.random);
    running.tokens.push(token);
    running.logProbabilities.push(logProbability);
    const stopped = options.endTokens.includes(token);
    if (!stopped && running.tokens.length < options.maximumTokens) return false;
    const { tokens, logProbabilities } = running;
    const sample: Sample = { tokens, logProbabilities, finishReason: stopped ? 'stop' : 'length' };
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
        const logits = await prefill(programs, next.request.tokens, cache, place);
        if (!advance(running, logits)) places[place] = running;
      }
    }
    if (places.every((place) => place === undefined)) return samples;
    const logits = await decode(programs, program, cache, places);
    places.forEach((running, place) => {
      if (running === undefined) return;
      running.length++;
      const own = logits.subarray(place * decoder.vocabularySize, (place + 1) * decoder.vocabularySize);
      if (advance(running, own)) places[place] = undefined;
    });
  }
};

const defaultBatchSize = 32;

const emptyCache = (decoder: Decoder, batch: number, capacity: number): Cache => {
  const shape = [batch, decoder.kvHeadCount, capacity, decoder.headWidth];
  const tensors: Record<string, HostTensor> = {};
  for (let layer = 0; layer < decoder.layerCount; layer++) {
    for (const kind of ['key', 'value'] as const) {
      tensors[cacheName(kind, layer)] = { dataType: 'float32', shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) };
    }
  }
  return { batch, capacity, tensors };
};

/** Runs a prompt, lays its keys and values into a place of the cache, and returns the logits after its last token. */
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
  const { kvHeadCount, headWidth } = decoder;
  for (let layer = 0; layer < decoder.layerCount; layer++) {
    for (const kind of ['key', 'value'] as const) {
      const from = (outputs[presentName(kind, layer)] as HostTensor).data as Float32Array; // [1, kvHeads, sequence, headWidth]
      const to = (cache.tensors[cacheName(kind, layer)] as HostTensor).data as Float32Array; // [batch, kvHeads, capacity, headWidth]
      for (let head = 0; head < kvHeadCount; head++) {
        const start = head * sequence * headWidth;
        to.set(from.subarray(start, start + tokens.length * headWidth), (place * kvHeadCount + head) * cache.capacity * headWidth);
      }
    }
  }
  return (outputs.logits as HostTensor).data as Float32Array;
};

/** One step for every place; places that are empty compute something that nobody reads. Returns logits, [batch · vocabulary]. */
const decode = async (
  programs: SamplerPrograms,
  program: Program,
  cache: Cache,
  places: readonly (Running | undefined)[],
): Promise<Float32Array> => {
  const lengths = Int32Array.from(places, (running) => running?.length ?? 0);
  const outputs = await program.run(
    {
      ...programs.parameters,
      ...cache.tensors,
      tokens: { dataType: 'int32', shape: [cache.batch, 1], data: Int32Array.from(places, (running) => running?.tokens.at(-1) ?? 0) },
      lengths: { dataType: 'int32', shape: [cache.batch], data: lengths },
      longest: { dataType: 'int32', shape: [1], data: Int32Array.of(Math.max(...lengths) + 1) },
    },
    inPlace(cache, programs.decoder.layerCount),
  );
  return (outputs.logits as HostTensor).data as Float32Array;
};

/** The cache's tensors under the names that the step puts them out by: past and present are one memory. */
const inPlace = (cache: Cache, layerCount: number): Record<string, HostTensor> => {
  const targets: Record<string, HostTensor> = {};
  for (let layer = 0; layer < layerCount; layer++) {
    for (const kind of ['key', 'value'] as const) targets[presentName(kind, layer)] = cache.tensors[cacheName(kind, layer)] as HostTensor;
  }
  return targets;
};
