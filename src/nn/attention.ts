import { constant, type Value } from '../graph/value.ts';
import { add } from '../ops/elementwise.ts';
import { matmul } from '../ops/matmul.ts';
import { softmax } from '../ops/normalisation.ts';
import { reshape } from '../ops/shape.ts';

/** Large enough that its exponential is 0 in float32, small enough that adding a score leaves it finite. */
const masked = -1e9;

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
