import type { HostTensor } from '../src/graph/tensor-type.ts';
import type { Value } from '../src/graph/value.ts';
import * as ops from '../src/ops/index.ts';
import { f32, floats, type OpSamples, streamOf, type } from './sample-tensors.ts';

/** Samples of the ops that compute with bytes, and of the surrogate that gives them a gradient. */
export const quantisedOps = (): Record<string, OpSamples> => {
  const random = streamOf('quantised');
  const bytes = (dataType: 'int8' | 'uint8', rows: number, columns: number): HostTensor => {
    const values = Array.from({ length: rows * columns }, () => random.integer(256) - (dataType === 'int8' ? 128 : 0));
    return { dataType, shape: [rows, columns], data: dataType === 'int8' ? Int8Array.from(values) : Uint8Array.from(values) };
  };
  const listed = (shape: readonly number[], values: readonly number[]): HostTensor => ({
    dataType: 'float32',
    shape,
    data: Float32Array.from(values),
  });
  const quantize = (...[x, scales]: Value[]) => ops.quantizeRows(x as Value, scales as Value);
  const multiply = (...[a, b, scales]: Value[]) => ops.integerProduct(a as Value, b as Value, scales as Value);
  return {
    quantizeRows: {
      samples: [
        // Powers of two as scales, so that ties are exact: they go to the even neighbour. Beyond the range is clamped.
        { inputs: [listed([2, 5], [0.25, 0.75, -0.25, 1.25, -100, 2, -2, 6, 1000, 0]), listed([2], [0.5, 4])], build: quantize },
        { inputs: [listed([1, 1], [-3]), listed([1], [1])], build: quantize },
        {
          inputs: [
            listed(
              [3, 2],
              [1, 2, 3, 4, 5, 6].map((value) => value + 0.1),
            ),
            listed([3], [0.3, 0.2, 0.1]),
          ],
          build: quantize,
        },
      ],
      misfits: [
        { inputs: [f32(2, 3), f32(3)], build: quantize },
        { inputs: [type('int32', 2, 3), f32(2)], build: quantize },
      ],
    },
    dequantizeRows: {
      samples: [
        [2, 5],
        [1, 1],
        [3, 8],
      ].map(([rows = 1, columns = 1]) => ({
        inputs: [bytes('uint8', rows, columns), floats(random, [rows])],
        build: (...[levels, scales]: Value[]) => ops.dequantizeRows(levels as Value, scales as Value),
      })),
      misfits: [{ inputs: [type('int8', 2, 3), f32(2)], build: (...[q, s]) => ops.dequantizeRows(q as Value, s as Value) }],
    },
    integerProduct: {
      samples: (['int8', 'uint8'] as const).flatMap((dataType) =>
        [
          [1, 1, 1],
          [3, 5, 2],
          [4, 33, 7],
          [2, 64, 16],
        ].map(([rows = 1, inner = 1, columns = 1]) => ({
          inputs: [bytes('uint8', rows, inner), bytes(dataType, inner, columns), floats(random, [columns])],
          build: multiply,
        })),
      ),
      misfits: [
        { inputs: [type('uint8', 2, 3), type('int8', 2, 3), f32(3)], build: multiply },
        { inputs: [type('int8', 2, 3), type('int8', 3, 2), f32(2)], build: multiply },
        { inputs: [type('uint8', 2, 3), type('int8', 3, 2), f32(3)], build: multiply },
      ],
    },
    surrogate: {
      samples: [
        {
          inputs: [floats(random, [2, 3]), floats(random, [2, 3]), floats(random, [2])],
          build: (x, first, second) =>
            ops.surrogate([x as Value], [ops.neg(first as Value), ops.exp(second as Value)], ([cotangent]) => [cotangent]),
        },
        // A result that is an input, and an output of the graph, has two names.
        { inputs: [floats(random, [4])], build: (x) => ops.surrogate([x as Value], [x as Value], (cotangents) => cotangents) },
      ],
      misfits: [{ inputs: [f32(2)], build: (x) => ops.surrogate([x as Value], [], () => [undefined]) }],
    },
  };
};
