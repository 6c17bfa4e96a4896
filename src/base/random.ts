import { hash } from 'node:crypto';

/** A stream of random numbers. Its state can be printed and continued. */
export interface Random {
  /** Uniform in [0, 1), 53 bits. */
  readonly uniform: () => number;
  /** Standard normal (Box–Muller). */
  readonly normal: () => number;
  /** Uniform integer in [0, limit). */
  readonly integer: (limit: number) => number;
  /** Four words from which `randomFromState` continues this very stream. */
  readonly state: () => RandomState;
}

export type RandomState = readonly [number, number, number, number];

/**
 * The stream that belongs to a seed and a path of labels. Streams of different labels are independent, so that drawing more of one thing
 * never shifts another: `randomFrom(seed, 'shuffle', epoch)`.
 */
export const randomFrom = (seed: number, ...labels: readonly (string | number)[]): Random => {
  // A character a byte: a buffer takes longer to make than the hash, and there is one of these for every question.
  const digest = hash('sha256', JSON.stringify([seed, ...labels]), 'binary');
  return randomFromState([wordAt(digest, 0), wordAt(digest, 4), wordAt(digest, 8), wordAt(digest, 12)]);
};

/** The unsigned 32 bits, lowest byte first, that begin at a character of a string of bytes. */
const wordAt = (bytes: string, at: number): number =>
  (bytes.charCodeAt(at) | (bytes.charCodeAt(at + 1) << 8) | (bytes.charCodeAt(at + 2) << 16) | (bytes.charCodeAt(at + 3) << 24)) >>> 0;

/** Continues a stream from its state: xoshiro128** (Blackman and Vigna, 2018). */
export const randomFromState = (state: RandomState): Random => {
  let [a, b, c, d] = state;
  const word = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  const uniform = () => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
  return {
    uniform,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    integer: (limit) => Math.floor(uniform() * limit),
    state: () => [a >>> 0, b >>> 0, c >>> 0, d >>> 0],
  };
};

/** A shuffled copy (Fisher–Yates). */
export const shuffled = <T>(items: readonly T[], random: Random): T[] => {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = random.integer(last + 1);
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
};
