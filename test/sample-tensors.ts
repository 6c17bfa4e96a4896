import { type Random, randomFrom } from '../src/base/random.ts';
import { type DataType, elementCount, type HostTensor, type Shape, type TensorType } from '../src/graph/tensor-type.ts';
import type { Value } from '../src/graph/value.ts';

/** One use of an op: what goes in, and the call. */
export interface Sample {
  readonly inputs: readonly HostTensor[];
  readonly build: (...values: Value[]) => Value | readonly Value[];
  /** Which inputs the gradient is checked for; absent: every float. */
  readonly differentiated?: readonly number[];
}

/** A call that must be refused. */
export interface Misfit {
  readonly inputs: readonly TensorType[];
  readonly build: (...values: Value[]) => unknown;
}

export interface OpSamples {
  readonly samples: readonly Sample[];
  readonly misfits: readonly Misfit[];
}

export type Draw = (random: Random) => number;

export const normal: Draw = (random) => random.normal();
/** At least 0.3 from zero: for kinks and poles there. */
export const awayFromZero: Draw = (random) => (random.uniform() < 0.5 ? -1 : 1) * (0.3 + random.uniform());
export const positive: Draw = (random) => 0.3 + 2 * random.uniform();

export const floats = (random: Random, shape: Shape, draw: Draw = normal): HostTensor => ({
  dataType: 'float32',
  shape,
  data: Float32Array.from({ length: elementCount(shape) }, () => draw(random)),
});
export const bools = (random: Random, shape: Shape): HostTensor => ({
  dataType: 'bool',
  shape,
  data: Uint8Array.from({ length: elementCount(shape) }, () => random.integer(2)),
});
export const integers = (random: Random, dataType: 'int32' | 'int64', shape: Shape, limit: number): HostTensor => {
  const values = Array.from({ length: elementCount(shape) }, () => random.integer(limit));
  return { dataType, shape, data: dataType === 'int32' ? Int32Array.from(values) : BigInt64Array.from(values.map(BigInt)) };
};
export const listed = (dataType: 'int32' | 'int64', shape: Shape, values: readonly number[]): HostTensor => ({
  dataType,
  shape,
  data: dataType === 'int32' ? Int32Array.from(values) : BigInt64Array.from(values.map(BigInt)),
});

export const type = (dataType: DataType, ...shape: number[]): TensorType => ({ dataType, shape });
export const f32 = (...shape: number[]): TensorType => type('float32', ...shape);

export const streamOf = (name: string): Random => randomFrom(20261122, 'op-samples', name);

/** A shape of up to four axes, of sizes 1, odd and even. */
export const randomShape = (random: Random, rank = random.integer(5)): number[] =>
  Array.from({ length: rank }, () => [1, 2, 3, 5, 7][random.integer(5)] as number);

/** A shape that broadcasts to `shape`: axes missing in front, others of size 1. */
export const broadcastable = (random: Random, shape: Shape): number[] =>
  shape.slice(random.integer(shape.length + 1)).map((size) => (random.uniform() < 0.4 ? 1 : size));

/** Fixed shapes that have gone wrong elsewhere, and drawn ones. */
export const shapesOf = (random: Random): Shape[] => [
  [],
  [1],
  [5],
  [1, 1, 1],
  [3, 1, 7],
  ...Array.from({ length: 3 }, () => randomShape(random)),
];
export const shapePairs = (random: Random, count = 2): [Shape, Shape][] =>
  [
    [[], []],
    [[3], []],
    [[2, 3], [3]],
    [
      [4, 1],
      [1, 5],
    ],
    [[1], [2, 1, 3]],
    [
      [2, 3, 5],
      [2, 3, 5],
    ],
    ...Array.from({ length: 4 }, (): [Shape, Shape] => {
      const shape = randomShape(random, 1 + random.integer(4));
      return [broadcastable(random, shape), broadcastable(random, shape)];
    }),
  ].slice(0, 6 + 2 * count) as [Shape, Shape][];
