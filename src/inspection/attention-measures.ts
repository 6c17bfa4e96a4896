import { ShapeError } from '../base/errors.ts';

/** Attention of every head of one layer on one text: row q, column k is how much query q looks at key k. */
export interface AttentionMaps {
  readonly headCount: number;
  readonly length: number;
  /** [heads, length, length] */
  readonly data: Float32Array;
}

/** Measures of one head's map. */
export interface HeadMeasures {
  /** Mean over rows of −Σ p ln p, in nats: 0 looks at one token, ln n at all n alike. */
  readonly entropy: number;
  /** Mean of the diagonal: how much tokens look at themselves. */
  readonly focus: number;
  /** Share of entries above 0.1: lower is sparser. */
  readonly sparsity: number;
  /** Mean of the first column: mass on the first token, where much of a language model's attention rests unused. */
  readonly firstToken: number;
}

export type MeasureName = keyof HeadMeasures;

/** The threshold of sparsity, as the study behind this project has it (arXiv 2412.17846). */
export const sparsityThreshold = 0.1;

/**
 * Maps with the first token's column taken out and the other columns of each row made to sum to 1; the first row, which has nothing else
 * to look at, goes with it. A row that had all its mass there stays zero: it looks nowhere.
 */
export const withoutFirstToken = ({ headCount, length, data }: AttentionMaps): AttentionMaps => {
  if (length < 2) throw new ShapeError(`maps of ${length} token have nothing beside their first column`);
  const size = length - 1;
  const rest = new Float32Array(headCount * size * size);
  for (let head = 0; head < headCount; head++) {
    for (let query = 1; query < length; query++) {
      const source = (head * length + query) * length;
      const target = (head * size + query - 1) * size;
      let sum = 0;
      for (let key = 1; key < length; key++) sum += data[source + key] as number;
      if (sum <= 0) continue;
      for (let key = 1; key < length; key++) rest[target + key - 1] = (data[source + key] as number) / sum;
    }
  }
  return { headCount, length: size, data: rest };
};

/** The measures of each head, rows normalised first. */
export const measureHeads = ({ headCount, length, data }: AttentionMaps): HeadMeasures[] => {
  if (data.length !== headCount * length * length) {
    throw new ShapeError(`${headCount} maps of ${length} tokens have ${headCount * length * length} entries, not ${data.length}`);
  }
  return Array.from({ length: headCount }, (_, head) => measureHead(data, head * length * length, length));
};

const measureHead = (data: Float32Array, start: number, length: number): HeadMeasures => {
  let entropy = 0;
  let focus = 0;
  let aboveCount = 0;
  let firstToken = 0;
  for (let query = 0; query < length; query++) {
    const row = start + query * length;
    let sum = 0;
    for (let key = 0; key < length; key++) sum += data[row + key] as number;
    if (sum <= 0) continue;
    for (let key = 0; key < length; key++) {
      const share = (data[row + key] as number) / sum;
      if (share > 0) entropy -= share * Math.log(share);
      if (share > sparsityThreshold) aboveCount++;
    }
    focus += (data[row + query] as number) / sum;
    firstToken += (data[row] as number) / sum;
  }
  return { entropy: entropy / length, focus: focus / length, sparsity: aboveCount / (length * length), firstToken: firstToken / length };
};

/** The cosine between the flattened maps of the same head in two sets, head by head: 1 where they are the same up to scale. */
export const headSimilarities = (first: AttentionMaps, second: AttentionMaps): number[] => {
  if (first.headCount !== second.headCount || first.length !== second.length) {
    throw new ShapeError(`${first.headCount} × ${first.length} and ${second.headCount} × ${second.length} maps were compared`);
  }
  const size = first.length * first.length;
  return Array.from({ length: first.headCount }, (_, head) => {
    let product = 0;
    let a = 0;
    let b = 0;
    for (let index = head * size; index < (head + 1) * size; index++) {
      const x = first.data[index] as number;
      const y = second.data[index] as number;
      product += x * y;
      a += x * x;
      b += y * y;
    }
    return a === 0 || b === 0 ? 0 : product / Math.sqrt(a * b);
  });
};
