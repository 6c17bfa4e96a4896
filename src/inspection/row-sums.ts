import { constant, scalar, type Value } from '../graph/value.ts';
import { cast, div, less, log, maximum, mul, neg } from '../ops/elementwise.ts';
import { gather } from '../ops/indexing.ts';
import { reduceSum } from '../ops/reduce.ts';
import { concat, reshape, slice } from '../ops/shape.ts';
import { type HeadMeasures, sparsityThreshold } from './attention-measures.ts';

/**
 * All that the measures need of a row of a map, as sums over its keys: a program reduces each layer's maps to them, so that numbers come out
 * and no maps. p is the row, p₀ the first token's share, r = Σ p without it, and q = p/r the rest of the row, which sums to 1 again. Sums are
 * taken of q, whose products do not vanish where nearly all of a row lies on the first token.
 */
export const rowSumNames = [
  'first', // p₀
  'second', // p₁, the first column once p₀'s is gone
  'rest', // r
  'self', // the diagonal of p
  'entropy', // −Σ q ln q
  'above', // entries of p above the threshold
  'aboveRest', // entries of q above it
  'square', // Σ q²
  'previous', // Σ q·q', q' the same head's row one layer before
  'base', // the same with the base's row
] as const;
export type RowSumName = (typeof rowSumNames)[number];

/** In place of 0 where it must not be divided by or have its logarithm taken: the smallest normal number, which leaves 0·ln 0 = 0. */
const smallest = scalar(1.2e-38);

/**
 * The sums of each row of one layer's maps, traced, and what the next layer needs of this one.
 *
 * @param map [subjects, heads, length, length], the base first
 * @param previousRest what came out as `rest` one layer before; absent: this is the first
 * @returns sums [sums, subjects, heads, length], in the order of `rowSumNames`; rest [subjects, heads, length, length − 1]
 */
export const rowSums = (map: Value, previousRest: Value | undefined): { readonly sums: Value; readonly rest: Value } => {
  const [subjects, heads, length] = map.type.shape as [number, number, number, number];
  const column = (index: number): Value => slice(map, 3, index, index + 1);
  const rowSum = (value: Value): Value => reduceSum(value, [3]);
  const withoutFirst = slice(map, 3, 1, length);
  const sum = reduceSum(withoutFirst, [3], true);
  const rest = div(withoutFirst, maximum(sum, smallest)); // q
  const countAbove = (value: Value): Value => rowSum(cast(less(scalar(sparsityThreshold), value), 'float32'));
  const sums: Record<RowSumName, Value> = {
    first: column(0),
    second: column(1),
    rest: sum,
    self: gather(reshape(map, [subjects * heads, length * length]), diagonalOf(length), 1),
    entropy: neg(rowSum(mul(rest, log(maximum(rest, smallest))))),
    above: countAbove(map),
    aboveRest: countAbove(rest),
    square: rowSum(mul(rest, rest)),
    previous: rowSum(mul(rest, previousRest ?? rest)),
    base: rowSum(mul(rest, slice(rest, 0, 0, 1))),
  };
  const parts = rowSumNames.map((name) => reshape(sums[name], [1, subjects, heads, length]));
  return { sums: concat(parts, 0), rest };
};

const diagonalOf = (length: number): Value => {
  const places = Int32Array.from({ length }, (_, row) => row * (length + 1));
  return constant({ dataType: 'int32', shape: [length], data: places });
};

/** The sums of one head's rows, as many of them as the text has tokens: a padded row is no row. */
export type HeadRowSums = Readonly<Record<RowSumName, Float32Array>>;

/** The sums of one subject's head out of a layer's, [sums, subjects, heads, sequence]. */
export const headRowSums = (
  data: Float32Array,
  { subjectCount, headCount, sequence, length }: Record<'subjectCount' | 'headCount' | 'sequence' | 'length', number>,
  subject: number,
  head: number,
): HeadRowSums =>
  Object.fromEntries(
    rowSumNames.map((name, index) => {
      const start = ((index * subjectCount + subject) * headCount + head) * sequence;
      return [name, data.subarray(start, start + length)];
    }),
  ) as Record<RowSumName, Float32Array>;

/** What `measureHeads` says of a map, from the sums of its rows, each row divided by its whole. */
export const measuresWithFirst = (sums: HeadRowSums): HeadMeasures =>
  meanOverRows(sums, 0, (row) => {
    const [first, rest] = [sums.first[row] as number, sums.rest[row] as number];
    const total = first + rest;
    const [a, b] = [first / total, rest / total];
    return {
      // of the two parts, and within the rest: −a ln a − b ln b + b·(−Σ q ln q)
      entropy: entropyPart(a) + entropyPart(b) + b * (sums.entropy[row] as number),
      focus: (sums.self[row] as number) / total,
      above: sums.above[row] as number,
      firstToken: a,
    };
  });

const entropyPart = (share: number): number => (share > 0 ? -share * Math.log(share) : 0);

/** What `measureHeads` says of a map after `withoutFirstToken`. A row that had all its mass on the first token counts as looking nowhere. */
export const measuresWithoutFirst = (sums: HeadRowSums): HeadMeasures =>
  meanOverRows(sums, 1, (row) => {
    const rest = sums.rest[row] as number;
    if (rest <= 0) return undefined;
    return {
      entropy: sums.entropy[row] as number,
      focus: (sums.self[row] as number) / rest,
      above: sums.aboveRest[row] as number,
      firstToken: (sums.second[row] as number) / rest,
    };
  });

interface RowMeasures {
  readonly entropy: number;
  readonly focus: number;
  readonly above: number;
  readonly firstToken: number;
}

const meanOverRows = ({ rest }: HeadRowSums, from: number, measure: (row: number) => RowMeasures | undefined): HeadMeasures => {
  const count = rest.length - from;
  let [entropy, focus, above, firstToken] = [0, 0, 0, 0];
  for (let row = from; row < rest.length; row++) {
    const found = measure(row);
    if (found === undefined) continue;
    entropy += found.entropy;
    focus += found.focus;
    above += found.above;
    firstToken += found.firstToken;
  }
  return { entropy: entropy / count, focus: focus / count, sparsity: above / count ** 2, firstToken: firstToken / count };
};

/** What `headSimilarities` says of two heads' maps: `product` names the sums over the products of their rows. */
export const similarity = (sums: HeadRowSums, product: 'previous' | 'base', other: HeadRowSums, column: 'with' | 'without'): number => {
  const isWhole = column === 'with';
  let [joint, own, theirs] = [0, 0, 0];
  for (let row = isWhole ? 0 : 1; row < sums.rest.length; row++) {
    // Σ p·p' = p₀·p'₀ + r·r'·Σ q·q'; without the first token the weight of a row is 1
    const [r, s] = isWhole ? [sums.rest[row] as number, other.rest[row] as number] : [1, 1];
    const [p, q] = isWhole ? [sums.first[row] as number, other.first[row] as number] : [0, 0];
    joint += p * q + r * s * (sums[product][row] as number);
    own += p * p + r * r * (sums.square[row] as number);
    theirs += q * q + s * s * (other.square[row] as number);
  }
  return own === 0 || theirs === 0 ? 0 : joint / Math.sqrt(own * theirs);
};
