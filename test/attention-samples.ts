import type { HostTensor, Shape } from '../src/graph/tensor-type.ts';
import { constant, type Value } from '../src/graph/value.ts';
import * as ops from '../src/ops/index.ts';
import { f32, floats, integers, listed, type Misfit, type OpSamples, type Sample, streamOf, type } from './sample-tensors.ts';

/** [positions, width/2] of cosines and sines, Hugging Face's frequencies. */
const rotaryTables = (positions: number, width: number): [HostTensor, HostTensor] => {
  const angles = Array.from({ length: (positions * width) / 2 }, (_, index) => {
    const feature = index % (width / 2);
    return Math.floor(index / (width / 2)) * 100 ** ((-2 * feature) / width);
  });
  const table = (f: (angle: number) => number): HostTensor => ({
    dataType: 'float32',
    shape: [positions, width / 2],
    data: Float32Array.from(angles, f),
  });
  return [table(Math.cos), table(Math.sin)];
};

export const rotaryOps = (): Record<string, OpSamples> => {
  const random = streamOf('rotary');
  const rotate = (x: Value, positions: Value, cosine: Value, sine: Value): Value => ops.rotaryEmbedding(x, positions, cosine, sine);
  const sample = (batch: number, heads: number, sequence: number, width: number): Sample => ({
    inputs: [floats(random, [batch, heads, sequence, width]), integers(random, 'int64', [batch, sequence], 9), ...rotaryTables(9, width)],
    build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
    differentiated: [0],
  });
  return {
    rotaryEmbedding: {
      samples: [sample(1, 1, 1, 2), sample(2, 3, 5, 8), sample(1, 2, 3, 64)],
      misfits: [
        {
          inputs: [f32(2, 3, 5, 8), type('int64', 2, 4), f32(9, 4), f32(9, 4)],
          build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
        },
        {
          inputs: [f32(2, 3, 5, 8), type('int64', 2, 5), f32(9, 8), f32(9, 8)],
          build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
        },
      ],
    },
  };
};

interface AttentionCase {
  readonly lengths: readonly number[];
  readonly sequence: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  readonly capacity: number;
  /** Queries and keys come as they are; no tables. */
  readonly isRotatedOutside?: boolean;
}

export const attentionOps = (): Record<string, OpSamples> => {
  const random = streamOf('attention');
  const sample = ({ lengths, sequence, heads, kvHeads, width, capacity, isRotatedOutside = false }: AttentionCase): Sample => {
    const batch = lengths.length;
    const total = Math.max(...lengths);
    const cache = [batch, kvHeads, capacity, width];
    // What lies beyond a row's length is unspecified, in the answer and in the cache: both sides are cleared there.
    const valid = (shape: Shape, holds: (row: number, place: number) => boolean, placeCount: number): Value => {
      const data = Array.from({ length: batch * placeCount }, (_, index) => holds(Math.floor(index / placeCount), index % placeCount));
      return constant({ dataType: 'bool', shape, data: Uint8Array.from(data, Number) });
    };
    return {
      inputs: [
        floats(random, [batch, sequence, heads * width]),
        floats(random, [batch, sequence, kvHeads * width]),
        floats(random, [batch, sequence, kvHeads * width]),
        floats(random, cache),
        floats(random, cache),
        listed(
          'int32',
          [batch],
          lengths.map((length) => length - 1),
        ),
        listed('int32', [1], [total]),
        ...(isRotatedOutside ? [] : rotaryTables(capacity, width)),
      ],
      build: (...values) => {
        const [query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength, cosine, sine] = values as [
          Value,
          Value,
          Value,
          Value,
          Value,
          Value,
          Value,
          Value,
          Value,
        ];
        const [y, presentKey, presentValue] = ops.groupQueryAttention(
          { query, key, value, pastKey, pastValue, seqlensK, totalSequenceLength, cosine, sine },
          { numHeads: heads, kvNumHeads: kvHeads, scale: 0.4 },
        );
        const start = (row: number): number => (sequence === total ? 0 : (lengths[row] as number) - sequence);
        const tokens = valid([batch, sequence, 1], (row, place) => start(row) + place < (lengths[row] as number), sequence);
        const places = valid([batch, 1, capacity, 1], (row, place) => place < (lengths[row] as number), capacity);
        return [y, presentKey, presentValue].map((output, index) => ops.where(index === 0 ? tokens : places, output, ops.zeros([])));
      },
    };
  };
  const misfit = (use: AttentionCase): Misfit => ({
    ...sample(use),
    inputs: sample(use).inputs.map(({ dataType, shape }) => type(dataType, ...shape)),
  });
  return {
    groupQueryAttention: {
      samples: [
        sample({ lengths: [5], sequence: 5, heads: 2, kvHeads: 2, width: 16, capacity: 5 }), // a prompt
        sample({ lengths: [5, 2, 3], sequence: 5, heads: 6, kvHeads: 2, width: 16, capacity: 9 }), // prompts of unequal length
        sample({ lengths: [5, 2], sequence: 5, heads: 2, kvHeads: 1, width: 8, capacity: 7, isRotatedOutside: true }),
        sample({ lengths: [7], sequence: 1, heads: 3, kvHeads: 1, width: 16, capacity: 8 }), // one more token
        sample({ lengths: [7, 2, 8], sequence: 1, heads: 4, kvHeads: 2, width: 64, capacity: 8 }), // one more token each
        sample({ lengths: [1, 1], sequence: 1, heads: 2, kvHeads: 1, width: 16, capacity: 4 }), // prompts of one token
        sample({ lengths: [7], sequence: 3, heads: 4, kvHeads: 2, width: 16, capacity: 9 }), // several tokens after a past
      ],
      misfits: [
        misfit({ lengths: [5], sequence: 5, heads: 2, kvHeads: 2, width: 8, capacity: 5 }),
        misfit({ lengths: [5], sequence: 5, heads: 3, kvHeads: 2, width: 16, capacity: 5 }),
      ],
    },
  };
};
