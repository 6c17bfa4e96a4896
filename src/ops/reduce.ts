import { ShapeError } from '../base/errors.ts';
import { elementCount, normalAxis } from '../graph/tensor-type.ts';
import { apply, type Op, scalar, type Value } from '../graph/value.ts';
import { expand, normalAxes, type Reduction, reducedOffsets, reducedShape, reduceSum } from './broadcasting.ts';
import { cast, div, equal, mul } from './elementwise.ts';
import { numbersOf, packTensor } from './host-tensors.ts';
import { int64List } from './onnx-constants.ts';
import { reshape } from './shape.ts';

export { reduceSum, reduceSumOp, sumTo } from './broadcasting.ts';

type Reducing = Op<readonly [Value], readonly [Value], Reduction>;

/** Keeps the one of two elements that is further in one direction. */
const extremum = (name: string, opType: string, further: (a: number, b: number) => number, start: number): Reducing => ({
  name,
  inferTypes: ([x], reduction) => {
    if (reduction.axes.some((axis) => x.shape[axis] === 0)) throw new ShapeError(`no extremum of no elements: [${x.shape.join(', ')}]`);
    return [{ dataType: x.dataType, shape: reducedShape(x.shape, reduction) }];
  },
  reference: ([x], reduction) => {
    const shape = reducedShape(x.shape, reduction);
    const extrema = new Float64Array(elementCount(shape)).fill(start);
    const values = numbersOf(x);
    reducedOffsets(x.shape, reduction.axes).forEach((offset, index) => {
      extrema[offset] = further(extrema[offset] as number, values[index] as number);
    });
    return [packTensor(x.dataType, shape, extrema)];
  },
  gradient: {
    kind: 'exact',
    // Shared evenly between equal extrema, which is a subgradient there.
    vjp: ({ inputs: [x], outputs: [y], cotangent: g, attributes: { axes } }) => {
      const kept = reducedShape(x.type.shape, { axes, keepDimensions: true });
      const isExtremum = cast(equal(x, reshape(y, kept)), x.type.dataType);
      return [mul(isExtremum, div(reshape(g, kept), reduceSum(isExtremum, axes, true)))];
    },
  },
  toOnnx: ({ axes, keepDimensions }) => ({
    opType,
    inputs: [0, int64List(...axes)],
    attributes: { keepdims: { int: keepDimensions ? 1 : 0 } },
  }),
});

export const reduceMaxOp = extremum('reduceMax', 'ReduceMax', Math.max, -Infinity);
export const reduceMinOp = extremum('reduceMin', 'ReduceMin', Math.min, Infinity);

/** The greatest element along the axes. */
export const reduceMax = (x: Value, axes: readonly number[], keepDimensions = false): Value =>
  axes.length === 0 ? x : apply(reduceMaxOp, [x], { axes: normalAxes(axes, x.type.shape.length), keepDimensions })[0];

/** The least element along the axes. */
export const reduceMin = (x: Value, axes: readonly number[], keepDimensions = false): Value =>
  axes.length === 0 ? x : apply(reduceMinOp, [x], { axes: normalAxes(axes, x.type.shape.length), keepDimensions })[0];

const meanCount = (shape: readonly number[], axes: readonly number[]): number => elementCount(axes.map((axis) => shape[axis] as number));

export const reduceMeanOp: Reducing = {
  name: 'reduceMean',
  inferTypes: ([x], reduction) => {
    if (meanCount(x.shape, reduction.axes) === 0) throw new ShapeError(`no mean of no elements: [${x.shape.join(', ')}]`);
    return [{ dataType: x.dataType, shape: reducedShape(x.shape, reduction) }];
  },
  reference: ([x], reduction) => {
    const shape = reducedShape(x.shape, reduction);
    const count = meanCount(x.shape, reduction.axes);
    const means = new Float64Array(elementCount(shape));
    const values = numbersOf(x);
    reducedOffsets(x.shape, reduction.axes).forEach((offset, index) => {
      means[offset] = (means[offset] as number) + (values[index] as number) / count;
    });
    return [packTensor(x.dataType, shape, means)];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x], cotangent: g, attributes: { axes } }) => {
      const share = mul(reshape(g, reducedShape(x.type.shape, { axes, keepDimensions: true })), scalar(1 / meanCount(x.type.shape, axes)));
      return [expand(share, x.type.shape)];
    },
  },
  toOnnx: ({ axes, keepDimensions }) => ({
    opType: 'ReduceMean',
    inputs: [0, int64List(...axes)],
    attributes: { keepdims: { int: keepDimensions ? 1 : 0 } },
  }),
};

/** The mean over the axes. Losses are not means: they return sums and counts. */
export const reduceMean = (x: Value, axes: readonly number[], keepDimensions = false): Value =>
  axes.length === 0 ? x : apply(reduceMeanOp, [x], { axes: normalAxes(axes, x.type.shape.length), keepDimensions })[0];

export const argMaxOp: Op<readonly [Value], readonly [Value], { readonly axis: number; readonly keepDimensions: boolean }> = {
  name: 'argMax',
  inferTypes: ([x], { axis, keepDimensions }) => {
    if (x.shape[axis] === 0) throw new ShapeError(`no maximum of no elements: axis ${axis} of [${x.shape.join(', ')}]`);
    return [{ dataType: 'int64', shape: reducedShape(x.shape, { axes: [axis], keepDimensions }) }];
  },
  reference: ([x], { axis, keepDimensions }) => {
    const shape = reducedShape(x.shape, { axes: [axis], keepDimensions });
    const inner = elementCount(x.shape.slice(axis + 1));
    const length = x.shape[axis] as number;
    const values = numbersOf(x);
    const best = new Float64Array(elementCount(shape)).fill(-Infinity);
    const positions = new Float64Array(best.length);
    // Row-major order meets earlier positions first, so that of equal elements the first wins.
    reducedOffsets(x.shape, [axis]).forEach((offset, index) => {
      if ((values[index] as number) <= (best[offset] as number)) return;
      best[offset] = values[index] as number;
      positions[offset] = Math.floor(index / inner) % length;
    });
    return [packTensor('int64', shape, positions)];
  },
  gradient: { kind: 'none' },
  toOnnx: ({ axis, keepDimensions }) => ({
    opType: 'ArgMax',
    attributes: { axis: { int: axis }, keepdims: { int: keepDimensions ? 1 : 0 } },
  }),
};

/** The position of the greatest element along an axis, the first of equal ones, as int64. */
export const argMax = (x: Value, axis: number, keepDimensions = false): Value =>
  apply(argMaxOp, [x], { axis: normalAxis(axis, x.type.shape.length), keepDimensions })[0];
