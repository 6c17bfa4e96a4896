/**
 * Sizes that programs are compiled for. Shapes are fixed when a program is compiled, so lengths are rounded up to few sizes: less
 * than a quarter is added beyond 128 (an eighth on average), and a data set needs a handful of programs.
 */
export const lengthBucket = (length: number): number => {
  if (length <= 128) return Math.ceil(length / 32) * 32;
  const step = 2 ** (Math.floor(Math.log2(length - 1)) - 2);
  return Math.ceil(length / step) * step;
};

/** The next power of two. */
export const powerOfTwo = (count: number): number => 2 ** Math.ceil(Math.log2(count));

/** Tokens with a loss, of `available` places, rounded up to quarters: the head computes no more than that. */
export const lossBucket = (count: number, available: number): number => {
  const quarter = Math.ceil(available / 4);
  return Math.min(available, Math.max(1, Math.ceil(count / quarter)) * quarter);
};

/**
 * Rows that are computed together: runs of the largest power of two that fits into the budget, and one for the rest, rounded up to few
 * sizes (1, 2, 3, 4, 6, 8, 12, 16 …). The places left over hold rows without loss: at most a third of that run, and cheaper than the
 * several smaller runs, and the programs for them, that would fit exactly.
 */
export const batchSizes = (rowCount: number, largest: number): number[] => {
  const most = 2 ** Math.floor(Math.log2(Math.max(1, largest)));
  const full = Array.from({ length: Math.floor(rowCount / most) }, () => most);
  const rest = rowCount % most;
  return rest === 0 ? full : [...full, fewSizes(rest)];
};

/** The next number of the form 2ⁿ or 3·2ⁿ: less than a half is added. */
export const fewSizes = (count: number): number => {
  const power = powerOfTwo(count);
  return count <= (3 * power) / 4 && power >= 4 ? (3 * power) / 4 : power;
};
