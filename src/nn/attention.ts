import { constant, type Value } from '../graph/value.ts';
import { add, mul } from '../ops/elementwise.ts';
import { matmul } from '../ops/matmul.ts';
import { softmax } from '../ops/normalisation.ts';
import { concat, reshape, slice } from '../ops/shape.ts';

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

/** 0 where a query may see a key, a large negative number where the key comes later: [sequence, sequence]. */
export const causalMask = (sequence: number): Value => {
  const data = new Float32Array(sequence * sequence);
  for (let query = 0; query < sequence; query++) data.fill(masked, query * sequence + query + 1, (query + 1) * sequence);
  return constant({ dataType: 'float32', shape: [sequence, sequence], data });
};

/**
 * softmax(q·kᵀ + mask)·v with grouped heads: query heads g·h … g·h + g − 1 share key-value head h. The queries come already scaled.
 *
 * @param query [batch, heads, sequence, headWidth]
 * @param key [batch, kvHeads, sequence, headWidth]; value alike
 * @param mask [sequence, sequence], or whatever broadcasts to [batch, kvHeads, group, sequence, sequence]
 * @returns the mixed values, shaped like the query, and the attention map [batch, heads, sequence, sequence]
 */
export const attention = (query: Value, key: Value, value: Value, mask: Value): { mixed: Value; map: Value } => {
  const [batch, heads, sequence, headWidth] = query.type.shape as [number, number, number, number];
  const kvHeads = key.type.shape[1] as number;
  const group = heads / kvHeads;
  // All queries of a group are rows of one product with the keys that they share: nothing is repeated.
  const grouped = reshape(query, [batch, kvHeads, group * sequence, headWidth]);
  const scores = reshape(matmul(grouped, key, { transposeB: true }), [batch, kvHeads, group, sequence, sequence]);
  const probabilities = softmax(add(scores, mask));
  const mixed = matmul(reshape(probabilities, [batch, kvHeads, group * sequence, sequence]), value);
  return {
    mixed: reshape(mixed, [batch, heads, sequence, headWidth]),
    map: reshape(probabilities, [batch, heads, sequence, sequence]),
  };
};
