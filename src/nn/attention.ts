import { constant, scalar, type Value } from '../graph/value.ts';
import { split } from '../ops/broadcasting.ts';
import { add, mul, relu, sub } from '../ops/elementwise.ts';
import { matmul } from '../ops/matmul.ts';
import { softmax } from '../ops/normalisation.ts';
import { concat, pad, reshape, slice } from '../ops/shape.ts';

/** Large enough that its exponential is 0 in float32, small enough that adding a score leaves it finite. */
export const masked = -1e9;

/**
 * softmax(q·[K, k]ᵀ + mask)·[V, v] for one new token of each sequence: K and V are the cache, k and v the token's own. Plain products over the
 * cache's whole capacity: they only read it, where an operator that updates a cache would have it copied.
 *
 * @param query [batch, kvHeads, group, headWidth], rotated and scaled
 * @param key [batch, kvHeads, headWidth, 1], rotated
 * @param value [batch, kvHeads, 1, headWidth]
 * @param cache keys [batch, kvHeads, headWidth, capacity], values [batch, kvHeads, capacity, headWidth]
 * @param mask [batch, 1, 1, capacity]: 0 where a position is filled, a large negative number where not
 * @returns [batch, kvHeads, group, headWidth]
 */
export const cachedAttention = (
  query: Value,
  key: Value,
  value: Value,
  cache: { readonly key: Value; readonly value: Value },
  mask: Value,
): Value => {
  const capacity = cache.key.type.shape[3] as number;
  const past = add(matmul(query, cache.key), mask); // [batch, kvHeads, group, capacity]
  const own = matmul(query, key); // [batch, kvHeads, group, 1]
  const probabilities = softmax(concat([past, own], 3));
  const mixed = matmul(slice(probabilities, 3, 0, capacity), cache.value);
  return add(mixed, mul(slice(probabilities, 3, capacity, capacity + 1), value));
};

/** Consecutive queries, which see the keys before the `keyCount`-th alone. */
export interface QueryChunk {
  readonly queryCount: number;
  readonly keyCount: number;
  /** 0 where a query may see a key, a large negative number where not; broadcasts to [batch, kvHeads, group, queries, keys]. */
  readonly mask: Value;
}

/**
 * Queries of a causal sequence in so many chunks: of the products that the mask throws away, most are not computed.
 *
 * @param starts float32 [batch, sequence]: the first key that each query may see; absent: 0
 * @param prefixLength keys before the sequence's own, which every query sees
 */
export const causalChunks = (sequence: number, chunkCount: number, starts?: Value, prefixLength = 0): readonly QueryChunk[] => {
  const size = Math.ceil(sequence / chunkCount);
  return Array.from({ length: Math.ceil(sequence / size) }, (_, chunk) => {
    const [from, to] = [chunk * size, Math.min(sequence, (chunk + 1) * size)];
    const causal = causalMask(from, to);
    const own = starts === undefined ? causal : add(causal, maskBefore(slice(starts, 1, from, to), to));
    return { queryCount: to - from, keyCount: prefixLength + to, mask: pad(own, own.type.shape.length - 1, prefixLength, 0) };
  });
};

/** 0 where a key is not before a query's start, a large negative number where it is: starts [batch, queries] to [batch, 1, 1, queries, keys]. */
const maskBefore = (starts: Value, keyCount: number): Value => {
  const keys = constant({ dataType: 'float32', shape: [keyCount], data: Float32Array.from({ length: keyCount }, (_, key) => key) });
  const [batch, queryCount] = starts.type.shape as [number, number];
  return mul(relu(sub(reshape(starts, [batch, 1, 1, queryCount, 1]), keys)), scalar(masked));
};

/** [to − from, to] */
const causalMask = (from: number, to: number): Value => {
  const data = new Float32Array((to - from) * to);
  for (let query = from; query < to; query++) data.fill(masked, (query - from) * to + query + 1, (query - from + 1) * to);
  return constant({ dataType: 'float32', shape: [to - from, to], data });
};

/**
 * softmax(q·kᵀ + mask)·v with grouped heads: query heads g·h … g·h + g − 1 share key-value head h. The queries come already scaled.
 *
 * @param query [batch, heads, sequence, headWidth]
 * @param key [batch, kvHeads, prefix + sequence, headWidth]; value alike
 * @returns the mixed values, shaped like the query, and each chunk's part of the attention map, [batch, heads, queries, keys]
 */
export const attention = (
  query: Value,
  key: Value,
  value: Value,
  chunks: readonly QueryChunk[],
): { readonly mixed: Value; readonly maps: readonly Value[] } => {
  const sizes = chunks.map(({ queryCount }) => queryCount);
  const queries = split(query, 2, sizes);
  const parts = chunks.map(({ keyCount, mask }, index) =>
    maskedAttention(queries[index] as Value, slice(key, 2, 0, keyCount), slice(value, 2, 0, keyCount), mask),
  );
  return {
    mixed: concat(
      parts.map(({ mixed }) => mixed),
      2,
    ),
    maps: parts.map(({ map }) => map),
  };
};

const maskedAttention = (query: Value, key: Value, value: Value, mask: Value): { mixed: Value; map: Value } => {
  const [batch, heads, queryCount, headWidth] = query.type.shape as [number, number, number, number];
  const [, kvHeads, keyCount] = key.type.shape as [number, number, number];
  const group = heads / kvHeads;
  // All queries of a group are rows of one product with the keys that they share: nothing is repeated.
  const grouped = reshape(query, [batch, kvHeads, group * queryCount, headWidth]);
  const scores = reshape(matmul(grouped, key, { transposeB: true }), [batch, kvHeads, group, queryCount, keyCount]);
  const probabilities = softmax(add(scores, mask));
  const mixed = matmul(reshape(probabilities, [batch, kvHeads, group * queryCount, keyCount]), value);
  return {
    mixed: reshape(mixed, [batch, heads, queryCount, headWidth]),
    map: reshape(probabilities, [batch, heads, queryCount, keyCount]),
  };
};
