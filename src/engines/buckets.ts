/**
 * Sizes that programs are compiled for. Shapes are fixed when a program is compiled, so lengths are rounded up to few sizes: at most an
 * eighth is wasted beyond 128, and a data set needs a handful of programs.
 */
export const lengthBucket = (length: number): number => {
  if (length <= 128) return Math.ceil(length / 32) * 32;
  const step = 2 ** (Math.floor(Math.log2(length - 1)) - 2);
  return Math.ceil(length / step) * step;
};

/** Tokens with a loss, of `available` places, rounded up to quarters: the head computes no more than that. */
export const lossBucket = (count: number, available: number): number => {
  const quarter = Math.ceil(available / 4);
  return Math.min(available, Math.max(1, Math.ceil(count / quarter)) * quarter);
};

/** Rows that are computed together: as many powers of two as fit into the budget, so that a count of rows needs few programs. */
export const batchSizes = (rowCount: number, largest: number): number[] => {
  const sizes: number[] = [];
  let rest = rowCount;
  for (let size = 2 ** Math.floor(Math.log2(Math.max(1, largest))); rest > 0; size /= 2) {
    for (; rest >= size; rest -= size) sizes.push(size);
  }
  return sizes;
};
