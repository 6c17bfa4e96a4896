import type { HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import type { Program } from '../runtime/program.ts';
import { fewSizes, lengthBucket, powerOfTwo } from './buckets.ts';
import type { KeyValueCache, KeyValues } from './key-value-cache.ts';
import { placesIn } from './micro-batch.ts';
import { newName, prefixName } from './step-graphs.ts';

/** What a program that reads prompts is compiled for. */
export interface PrefillShape {
  readonly sequence: number;
  readonly promptCount: number;
  /** Positions before all prompts that are known already. */
  readonly prefixLength: number;
  /** Several prompts stand one after the other in the sequence. */
  readonly packed: boolean;
}

export interface PrefillPrograms {
  readonly decoder: Decoder;
  /** Trainable parameters, which every program takes as inputs. */
  readonly parameters: Readonly<Record<string, HostTensor>>;
  prefill(shape: PrefillShape): Promise<Program>;
}

/** A prompt, and the place of the cache that it goes into. */
export interface PlacedPrompt {
  readonly place: number;
  readonly tokens: readonly number[];
}

/** Reads prompts into places of a cache. */
export interface PromptReader {
  /** How many of the prompts, the first of them, one run reads. */
  countIn(prompts: readonly PlacedPrompt[]): number;
  /** The log-probabilities after the last token of each, [prompts][vocabulary]. */
  read(prompts: readonly PlacedPrompt[]): Promise<Float32Array[]>;
}

/** One prompt a run, for caches that what is read goes into without coming to the host. */
export const singleReader = ({ decoder, parameters, prefill }: PrefillPrograms, cache: KeyValueCache): PromptReader => ({
  countIn: () => 1,
  read: async (prompts) => {
    const read: Float32Array[] = [];
    for (const { place, tokens } of prompts) {
      const sequence = lengthBucket(tokens.length);
      const program = await prefill({ sequence, promptCount: 1, prefixLength: 0, packed: false });
      const inputs = { ...parameters, ...tokenInputs([tokens], sequence, 1) };
      const layings = [{ place, from: 0, position: 0, count: tokens.length }];
      read.push((await cache.run(program, inputs, layings)).subarray(0, decoder.vocabularySize));
    }
    return read;
  },
});

/** Tokens of one run: from here on a longer one is hardly faster a token. */
const runLength = 512;
const mostPrompts = 16;
/** A shorter one costs little to read anew. */
const leastPrefix = 32;

/**
 * Several prompts a run, one after the other in one sequence, of which none sees another. What all of them begin with (a system text, worked examples) is
 * read once.
 *
 * @param prompts all that will be read
 */
export const packedReader = (
  programs: PrefillPrograms,
  lay: NonNullable<KeyValueCache['lay']>,
  prompts: readonly (readonly number[])[],
): PromptReader => {
  const { decoder, parameters, prefill } = programs;
  const prefixTokens = commonPrefix(prompts);
  const prefixLength = prefixTokens.length;
  let prefix: Promise<Prefix> | undefined;

  const run = async (rows: readonly (readonly number[])[], known: number, given: KeyValues) => {
    const lengths = rows.map((tokens) => tokens.length);
    const sequence = fewSizes(
      Math.max(
        64,
        lengths.reduce((sum, length) => sum + length, 0),
      ),
    );
    const promptCount = powerOfTwo(rows.length);
    const program = await prefill({ sequence, promptCount, prefixLength: known, packed: true });
    const places = placesIn([lengths], { batch: 1, sequence }, known);
    return program.run({ ...parameters, ...given, ...places, ...tokenInputs(rows, sequence, promptCount) });
  };

  const readPrefix = async (): Promise<Prefix> => {
    const given: Record<string, HostTensor> = {};
    const laid: Record<string, HostTensor> = {};
    if (prefixLength === 0) return { given, laid };
    const outputs = await run([prefixTokens], 0, {});
    for (let layer = 0; layer < decoder.layerCount; layer++) {
      for (const kind of ['key', 'value'] as const) {
        const tensor = cropped(outputs[newName(kind, layer)] as HostTensor, prefixLength);
        given[prefixName(kind, layer)] = tensor;
        laid[newName(kind, layer)] = tensor;
      }
    }
    return { given, laid };
  };

  return {
    countIn: (next) => {
      let total = 0;
      const end = next.findIndex(({ tokens }, index) => {
        total += tokens.length - prefixLength;
        return index > 0 && (total > runLength || index === mostPrompts);
      });
      return end === -1 ? next.length : end;
    },
    read: async (next) => {
      prefix ??= readPrefix();
      const { given, laid } = await prefix;
      const rows = next.map(({ tokens }) => tokens.slice(prefixLength));
      const outputs = await run(rows, prefixLength, given);
      let start = 0;
      rows.forEach(({ length }, index) => {
        const { place } = next[index] as PlacedPrompt;
        if (prefixLength > 0) lay(laid, [{ place, from: 0, position: 0, count: prefixLength }]);
        lay(outputs, [{ place, from: 0, start, position: prefixLength, count: length }]);
        start += length;
      });
      const { data } = outputs.logProbabilities as HostTensor & { readonly data: Float32Array };
      return rows.map((_, index) => data.subarray(index * decoder.vocabularySize, (index + 1) * decoder.vocabularySize));
    },
  };
};

/** Keys and values of what all prompts begin with, by the names under which programs take them, and under which they are laid into places. */
interface Prefix {
  readonly given: KeyValues;
  readonly laid: KeyValues;
}

/** The first tokens that all share, of a length that few others have, and without the last of any: something is to be predicted from. */
const commonPrefix = ([first = [], ...others]: readonly (readonly number[])[]): readonly number[] => {
  if (others.length === 0) return [];
  let length = first.length - 1;
  for (const other of others) {
    length = Math.min(length, other.length - 1);
    const end = first.slice(0, length).findIndex((token, index) => token !== other[index]);
    if (end !== -1) length = end;
  }
  return first.slice(0, Math.max(0, length - (length % leastPrefix)));
};

/** Rows one after the other, and where each ends. */
const tokenInputs = (rows: readonly (readonly number[])[], sequence: number, promptCount: number): Record<string, HostTensor> => {
  const tokens = new Int32Array(sequence);
  const sources = new Int32Array(promptCount);
  let start = 0;
  rows.forEach((row, index) => {
    tokens.set(row, start);
    start += row.length;
    sources[index] = start - 1;
  });
  return {
    tokens: { dataType: 'int32', shape: [1, sequence], data: tokens },
    sources: { dataType: 'int32', shape: [promptCount], data: sources },
  };
};

/** The first positions of keys or values, [1, kvHeads, sequence, headWidth]. */
const cropped = ({ shape, data }: HostTensor, length: number): HostTensor => {
  const [, heads, sequence, width] = shape as [number, number, number, number];
  const result = new Float32Array(heads * length * width);
  for (let head = 0; head < heads; head++) {
    const start = head * sequence * width;
    result.set((data as Float32Array).subarray(start, start + length * width), head * length * width);
  }
  return { dataType: 'float32', shape: [1, heads, length, width], data: result };
};
