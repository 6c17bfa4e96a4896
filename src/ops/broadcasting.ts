import { ShapeError } from '../base/errors.ts';
import { broadcastShape, elementCount, normalAxis, type Shape, sameShape } from '../graph/tensor-type.ts';
import { apply, type Op, scalar, type Value } from '../graph/value.ts';
import { broadcastOffsets, numbersOf, packTensor } from './host-tensors.ts';
import { int64List } from './onnx-constants.ts';
import { concat, pad, reshape, slice } from './shape.ts';

// Broadcasting and summing are each other's gradients, so they share a file.

export const expandOp: Op<readonly [Value], readonly [Value], { readonly shape: Shape }> = {
  name: 'expand',
  inferTypes: ([x], { shape }) => {
    if (!sameShape(broadcastShape(x.shape, shape), shape)) {
      throw new ShapeError(`[${x.shape.join(', ')}] does not broadcast to [${shape.join(', ')}]`);
    }
    return [{ dataType: x.dataType, shape }];
  },
  reference: ([x], { shape }) => {
    const values = numbersOf(x);
    return [
      packTensor(
        x.dataType,
        shape,
        Float64Array.from(broadcastOffsets(x.shape, shape), (offset) => values[offset] as number),
      ),
    ];
  },
  gradient: { kind: 'exact', vjp: ({ inputs: [x], cotangent: g }) => [sumTo(g, x.type.shape)] },
  toOnnx: ({ shape }) => ({ opType: 'Expand', inputs: [0, int64List(...shape)] }),
};

/** Repeats x along its axes of size 1, and along new ones in front, until it has the shape. */
export const expand = (x: Value, shape: Shape): Value => (sameShape(x.type.shape, shape) ? x : apply(expandOp, [x], { shape })[0]);

/** float32 zeros, made at run time: a constant of this size would be part of the model's file. */
export const zeros = (shape: Shape): Value => expand(scalar(0), shape);

export interface Reduction {
  /** Counted from the front, ascending. */
  readonly axes: readonly number[];
  readonly keepDimensions: boolean;
}

/** The axes counted from the front, ascending, each once. */
export const normalAxes = (axes: readonly number[], rank: number): number[] => {
  const normal = axes.map((axis) => normalAxis(axis, rank)).sort((a, b) => a - b);
  if (new Set(normal).size !== normal.length) throw new ShapeError(`axes ${axes.join(', ')} name one axis twice`);
  return normal;
};

/** What is left of a shape when some axes are reduced: 1 in their place, or nothing. */
export const reducedShape = (shape: Shape, { axes, keepDimensions }: Reduction): Shape =>
  keepDimensions ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size)) : shape.filter((_, axis) => !axes.includes(axis));

/** The position in the reduced tensor that each element of `shape` belongs to. */
export const reducedOffsets = (shape: Shape, axes: readonly number[]): Int32Array =>
  broadcastOffsets(reducedShape(shape, { axes, keepDimensions: true }), shape);

export const reduceSumOp: Op<readonly [Value], readonly [Value], Reduction> = {
  name: 'reduceSum',
  inferTypes: ([x], reduction) => [{ dataType: x.dataType, shape: reducedShape(x.shape, reduction) }],
  reference: ([x], reduction) => {
    const shape = reducedShape(x.shape, reduction);
    const sums = new Float64Array(elementCount(shape));
    const values = numbersOf(x);
    reducedOffsets(x.shape, reduction.axes).forEach((offset, index) => {
      sums[offset] = (sums[offset] as number) + (values[index] as number);
    });
    return [packTensor(x.dataType, shape, sums)];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x], cotangent: g, attributes: { axes } }) => [
      expand(reshape(g, reducedShape(x.type.shape, { axes, keepDimensions: true })), x.type.shape),
    ],
  },
  toOnnx: ({ axes, keepDimensions }) => ({
    opType: 'ReduceSum',
    inputs: [0, int64List(...axes)],
    attributes: { keepdims: { int: keepDimensions ? 1 : 0 } },
  }),
};

/** The sum over the axes, which stay with size 1 or go. */
export const reduceSum = (x: Value, axes: readonly number[], keepDimensions = false): Value =>
  axes.length === 0 ? x : apply(reduceSumOp, [x], { axes: normalAxes(axes, x.type.shape.length), keepDimensions })[0];

/** Undoes a broadcast from `shape`: sums over the axes that were added or repeated. */
export const sumTo = (value: Value, shape: Shape): Value => {
  const from = value.type.shape;
  const added = from.length - shape.length;
  const axes = [...from.keys()].filter((axis) => axis < added || (shape[axis - added] === 1 && from[axis] !== 1));
  // One pass over the data whatever the axes: the shape is put right afterwards, which moves nothing.
  return reshape(reduceSum(value, axes), shape);
};

interface Parts {
  readonly axis: number;
  readonly sizes: readonly number[];
}

const startsOf = (sizes: readonly number[]): number[] => {
  let sum = 0;
  return sizes.map((size) => {
    sum += size;
    return sum - size;
  });
};

export const splitOp: Op<readonly [Value], readonly Value[], Parts> = {
  name: 'split',
  inferTypes: ([x], { axis, sizes }) => {
    if (sizes.some((size) => size < 0) || sizes.reduce((sum, size) => sum + size, 0) !== x.shape[axis]) {
      throw new ShapeError(`parts of ${sizes.join(' + ')} do not make up axis ${axis} of [${x.shape.join(', ')}]`);
    }
    return sizes.map((size) => ({ dataType: x.dataType, shape: x.shape.with(axis, size) }));
  },
  reference: ([x], { axis, sizes }) => {
    const length = x.shape[axis] as number;
    const inner = elementCount(x.shape.slice(axis + 1));
    const values = Float64Array.from(numbersOf(x));
    return startsOf(sizes).map((start, part) => {
      const size = sizes[part] as number;
      const kept = values.filter((_, index) => {
        const position = Math.floor(index / inner) % length;
        return position >= start && position < start + size;
      });
      return packTensor(x.dataType, x.shape.with(axis, size), kept);
    });
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x], cotangents, attributes: { axis, sizes } }) => {
      const known = cotangents.flatMap((cotangent, index) => (cotangent === undefined ? [] : [{ cotangent, index }]));
      const [first] = known;
      if (first !== undefined && known.length === 1) {
        const start = startsOf(sizes)[first.index] as number;
        return [pad(first.cotangent, axis, start, (x.type.shape[axis] as number) - start - (sizes[first.index] as number))];
      }
      const parts = sizes.map((size, index) => cotangents[index] ?? zeros(x.type.shape.with(axis, size)));
      return [concat(parts, axis)];
    },
  },
  toOnnx: ({ axis, sizes }) => ({ opType: 'Split', inputs: [0, int64List(...sizes)], attributes: { axis: { int: axis } } }),
};

/** Consecutive parts along an axis. One node, and one concatenation backwards, where several slices would each be padded and added. */
export const split = (x: Value, axis: number, sizes: readonly number[]): readonly Value[] =>
  sizes.length === 1
    ? [slice(x, axis, 0, sizes[0] as number)]
    : apply(splitOp, [x], { axis: normalAxis(axis, x.type.shape.length), sizes });
