import { ShapeError } from '../base/errors.ts';
import { describeType, elementCount, sameShape, type TensorType } from '../graph/tensor-type.ts';
import { apply, type HostOf, type Op, type TypesOf, type Value } from '../graph/value.ts';
import { numbersOf, packTensor } from './host-tensors.ts';
import { checkRotaryTables, rotaryTableRow, rotatedRow } from './rotary.ts';

export interface GroupQueryAttributes {
  readonly numHeads: number;
  readonly kvNumHeads: number;
  /** What the products of queries and keys are multiplied by: 1/√width as a rule. */
  readonly scale: number;
}

export interface GroupQueryInputs {
  /** [batch, sequence, heads·width], before rotation. Width is a multiple of 16 with rotation, else of 8. */
  readonly query: Value;
  /** [batch, sequence, kvHeads·width], before rotation. */
  readonly key: Value;
  /** [batch, sequence, kvHeads·width]. */
  readonly value: Value;
  /** [batch, kvHeads, capacity, width], rotated. */
  readonly pastKey: Value;
  /** [batch, kvHeads, capacity, width]. */
  readonly pastValue: Value;
  /** int32 [batch]: tokens of each sequence with the new ones, minus one. */
  readonly seqlensK: Value;
  /** int32 [1]: tokens of the longest sequence with the new ones. */
  readonly totalSequenceLength: Value;
  /** [positions, width/2], or both tables left out: then queries and keys come rotated. */
  readonly cosine?: Value | undefined;
  /** [positions, width/2]. */
  readonly sine?: Value | undefined;
}

type Tuple = readonly [
  query: Value,
  key: Value,
  value: Value,
  pastKey: Value,
  pastValue: Value,
  seqlensK: Value,
  totalSequenceLength: Value,
  cosine: Value | undefined,
  sine: Value | undefined,
];

const inferTypes = (types: TypesOf<Tuple>, { numHeads, kvNumHeads }: GroupQueryAttributes): TypesOf<readonly [Value, Value, Value]> => {
  const [query, key, value, pastKey, pastValue, seqlensK, total, cosine, sine] = types;
  const [batch, sequence, hidden] = query.shape as [number, number, number];
  const width = hidden / numHeads;
  if (query.shape.length !== 3 || !Number.isInteger(width) || numHeads % kvNumHeads !== 0) {
    throw new ShapeError(`a query of [${query.shape.join(', ')}] for ${numHeads} heads over ${kvNumHeads}`);
  }
  const expected: readonly (readonly [string, TensorType, TensorType['shape'], TensorType['dataType']])[] = [
    ['key', key, [batch, sequence, kvNumHeads * width], query.dataType],
    ['value', value, [batch, sequence, kvNumHeads * width], query.dataType],
    ['pastKey', pastKey, [batch, kvNumHeads, pastKey.shape[2] ?? 0, width], query.dataType],
    ['pastValue', pastValue, pastKey.shape, query.dataType],
    ['seqlensK', seqlensK, [batch], 'int32'],
    ['totalSequenceLength', total, [1], 'int32'],
  ];
  for (const [name, type, shape, dataType] of expected) {
    if (!sameShape(type.shape, shape) || type.dataType !== dataType) {
      throw new ShapeError(
        `${name} is ${describeType(type)}, where ${describeType({ dataType, shape })} fits a query of ${describeType(query)}`,
      );
    }
  }
  if (cosine !== undefined && sine !== undefined) checkRotaryTables(width, cosine, sine);
  // ONNX Runtime's own limits.
  const multiple = cosine === undefined ? 8 : 16;
  if (width % multiple !== 0 || (cosine === undefined) !== (sine === undefined)) {
    throw new ShapeError(
      `heads of width ${width} ${cosine === undefined ? 'rotated outside' : 'with rotary tables'}, which want a multiple of ${multiple}`,
    );
  }
  return [query, pastKey, pastValue];
};

/** One row of the batch: its slice of every tensor, and where the new tokens stand. */
const attendRow = (
  inputs: HostOf<Tuple>,
  attributes: GroupQueryAttributes,
  batch: number,
  into: { y: Float64Array; key: Float64Array; value: Float64Array },
): void => {
  const [query, key, value, pastKey, , seqlensK, total, cosine, sine] = inputs;
  const { numHeads, kvNumHeads, scale } = attributes;
  const [, sequence, hidden] = query.shape as [number, number, number];
  const capacity = pastKey.shape[2] as number;
  const width = hidden / numHeads;
  const [queries, keys, values] = [numbersOf(query), numbersOf(key), numbersOf(value)];
  const length = (numbersOf(seqlensK)[batch] as number) + 1;
  const start = sequence === numbersOf(total)[0] ? 0 : length - sequence;
  const rotated = (cells: readonly number[], place: number): readonly number[] =>
    cosine === undefined || sine === undefined
      ? cells
      : rotatedRow(cells, rotaryTableRow(cosine, numbersOf(cosine), place), rotaryTableRow(sine, numbersOf(sine), place));
  const cells = (from: ArrayLike<number>, heads: number, token: number, head: number): number[] => {
    const at = ((batch * sequence + token) * heads + head) * width;
    return Array.prototype.slice.call(from, at, at + width);
  };
  const cacheAt = (head: number, place: number): number => ((batch * kvNumHeads + head) * capacity + place) * width;
  for (let token = 0; token < sequence && start + token < length; token++) {
    for (let head = 0; head < kvNumHeads; head++) {
      into.key.set(rotated(cells(keys, kvNumHeads, token, head), start + token), cacheAt(head, start + token));
      into.value.set(cells(values, kvNumHeads, token, head), cacheAt(head, start + token));
    }
    for (let head = 0; head < numHeads; head++) {
      const q = rotated(cells(queries, numHeads, token, head), start + token);
      const kvHead = Math.floor(head / (numHeads / kvNumHeads));
      const scores = Array.from(
        { length: start + token + 1 },
        (_, place) => q.reduce((sum, x, i) => sum + x * (into.key[cacheAt(kvHead, place) + i] as number), 0) * scale,
      );
      const greatest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - greatest));
      const sum = powers.reduce((a, b) => a + b, 0);
      for (let i = 0; i < width; i++) {
        const mixed = powers.reduce((mix, power, place) => mix + power * (into.value[cacheAt(kvHead, place) + i] as number), 0);
        into.y[(batch * sequence + token) * hidden + head * width + i] = mixed / sum;
      }
    }
  }
};

export const groupQueryAttentionOp: Op<Tuple, readonly [y: Value, presentKey: Value, presentValue: Value], GroupQueryAttributes> = {
  name: 'groupQueryAttention',
  inferTypes,
  reference: (inputs, attributes) => {
    const [query, , , pastKey, pastValue] = inputs;
    const into = {
      y: new Float64Array(elementCount(query.shape)),
      key: Float64Array.from(numbersOf(pastKey)),
      value: Float64Array.from(numbersOf(pastValue)),
    };
    for (let batch = 0; batch < (query.shape[0] as number); batch++) attendRow(inputs, attributes, batch, into);
    return [
      packTensor(query.dataType, query.shape, into.y),
      packTensor(pastKey.dataType, pastKey.shape, into.key),
      packTensor(pastValue.dataType, pastValue.shape, into.value),
    ];
  },
  gradient: { kind: 'none' },
  toOnnx: ({ numHeads, kvNumHeads, scale }, types) => ({
    opType: 'GroupQueryAttention',
    domain: 'com.microsoft',
    attributes: {
      num_heads: { int: numHeads },
      kv_num_heads: { int: kvNumHeads },
      scale: { float: scale },
      do_rotary: { int: types[7] === undefined ? 0 : 1 },
      rotary_interleaved: { int: 0 },
    },
  }),
};

/**
 * Causal attention over a key-value cache, with the rotary embedding of queries and keys inside. It writes the new keys and values into
 * the cache and lets every token attend to all up to itself. For decoding: it has no gradient.
 *
 * Row `b` has `seqlensK[b] + 1` tokens once this call is done, and starts at place 0 of its part of the cache. There are two uses:
 * - a prompt, where `sequence` equals `totalSequenceLength`: nothing of the past is read; shorter rows are padded at their ends;
 * - one more token each, `sequence` 1: it goes to place `seqlensK[b]`, over whatever lies there.
 *
 * Between the two (several tokens after a past) ONNX Runtime takes batches of one row only. Unspecified, and possibly NaN: `y` of padding
 * (its attention reads memory that was never written) and the cache from a row's length on. Neither is ever read again, since a row's next
 * token overwrites the place that it is about to read.
 *
 * With one buffer given as past and fetched as present the cache is updated in place, without copying it.
 * Source: ONNX Runtime, contrib_ops/cpu/bert/gqa_attention_base.h.
 */
export const groupQueryAttention = (
  inputs: GroupQueryInputs,
  attributes: GroupQueryAttributes,
): readonly [y: Value, presentKey: Value, presentValue: Value] => {
  const { query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength, cosine, sine } = inputs;
  return apply(groupQueryAttentionOp, [query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength, cosine, sine], attributes);
};
