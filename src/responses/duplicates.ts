import { randomFrom } from '../base/random.ts';
import { wordGrams, words } from './words.ts';

/** A text that says what an earlier one says. */
export interface Duplicate {
  readonly id: string;
  /** The first text of its kind, which is kept. */
  readonly duplicateOf: string;
  /** Jaccard similarity of the two texts' runs of five words; 1 when they are the same words. */
  readonly similarity: number;
}

export interface DuplicateOptions {
  /** The similarity from which texts count as duplicates; 0.8 when absent, 1 for the same words only. */
  readonly threshold?: number;
}

/** Words in a run. */
const gramLength = 5;

/**
 * Hashes in a signature, in bands: texts that agree in a whole band are compared exactly. At similarity s a pair is compared with probability
 * 1 − (1 − s⁴)¹⁶: 0.9998 at 0.8, so that one pair in four thousand at the threshold is missed, and none with the same words.
 */
const bandCount = 16;
const rowsPerBand = 4;

/** Texts that are the same or nearly the same as an earlier one (MinHash, Broder 1997), in their order. */
export const findDuplicates = (
  texts: readonly { readonly id: string; readonly text: string }[],
  { threshold = 0.8 }: DuplicateOptions = {},
): Duplicate[] => {
  const hashes = hashFunctions();
  const buckets = new Map<string, number[]>();
  const kept: { readonly id: string; readonly grams: ReadonlySet<string> }[] = [];
  const duplicates: Duplicate[] = [];
  for (const { id, text } of texts) {
    const grams = new Set(wordGrams(words(text), gramLength));
    const bands = bandsOf(grams, hashes);
    const candidates = new Set(bands.flatMap((band) => buckets.get(band) ?? []));
    const best = [...candidates]
      .map((index) => ({ index, similarity: jaccard(grams, kept[index]?.grams ?? new Set()) }))
      .sort((a, b) => b.similarity - a.similarity || a.index - b.index)[0];
    const original = best === undefined ? undefined : kept[best.index];
    if (best !== undefined && original !== undefined && best.similarity >= threshold) {
      duplicates.push({ id, duplicateOf: original.id, similarity: best.similarity });
      continue;
    }
    for (const band of bands) {
      const bucket = buckets.get(band);
      if (bucket === undefined) buckets.set(band, [kept.length]);
      else bucket.push(kept.length);
    }
    kept.push({ id, grams });
  }
  return duplicates;
};

/** |A ∩ B| / |A ∪ B|; two empty texts are the same. */
const jaccard = (a: ReadonlySet<string>, b: ReadonlySet<string>): number => {
  if (a.size === 0 && b.size === 0) return 1;
  let shared = 0;
  for (const item of a.size < b.size ? a : b) if ((a.size < b.size ? b : a).has(item)) shared++;
  return shared / (a.size + b.size - shared);
};

/** The names of a text's bands: the smallest hash of its runs under each function, four functions to a band. */
const bandsOf = (grams: ReadonlySet<string>, hashes: readonly HashFunction[]): string[] => {
  const signature = new Uint32Array(hashes.length).fill(0xffffffff);
  for (const gram of grams) {
    const base = fnv1a(gram);
    for (const [index, { multiplier, offset }] of hashes.entries()) {
      const value = mix((Math.imul(base, multiplier) + offset) >>> 0);
      if (value < (signature[index] ?? 0)) signature[index] = value;
    }
  }
  return Array.from(
    { length: bandCount },
    (_, band) => `${band}:${signature.subarray(band * rowsPerBand, (band + 1) * rowsPerBand).join()}`,
  );
};

interface HashFunction {
  /** Odd, so that multiplying by it is a permutation of 32-bit words. */
  readonly multiplier: number;
  readonly offset: number;
}

const hashFunctions = (): HashFunction[] => {
  const random = randomFrom(1, 'minhash');
  return Array.from({ length: bandCount * rowsPerBand }, () => ({
    multiplier: random.integer(2 ** 31) * 2 + 1,
    offset: random.integer(2 ** 32),
  }));
};

/** FNV-1a, 32 bits, over UTF-16 code units. */
const fnv1a = (text: string): number => {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return hash >>> 0;
};

/** The finaliser of MurmurHash3: every bit of the input reaches every bit of the output. */
const mix = (word: number): number => {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
};
