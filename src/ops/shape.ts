import { ShapeError } from '../base/errors.ts';
import { elementCount, normalAxis, type Shape, sameShape } from '../graph/tensor-type.ts';
import { apply, type Op, type Value } from '../graph/value.ts';
import { numbersOf, offsetsOf, packTensor, stridesOf } from './host-tensors.ts';
import { int64List } from './onnx-constants.ts';

type Unary<Attributes extends object> = Op<readonly [Value], readonly [Value], Attributes>;

export const reshapeOp: Unary<{ readonly shape: Shape }> = {
  name: 'reshape',
  isView: true,
  inferTypes: ([x], { shape }) => {
    if (elementCount(x.shape) !== elementCount(shape) || shape.some((size) => size < 0)) {
      throw new ShapeError(`[${x.shape.join(', ')}] holds ${elementCount(x.shape)} elements, which do not fill [${shape.join(', ')}]`);
    }
    return [{ dataType: x.dataType, shape }];
  },
  reference: ([x], { shape }) => [{ ...x, shape }],
  gradient: { kind: 'exact', vjp: ({ inputs: [x], cotangent: g }) => [reshape(g, x.type.shape)] },
  // allowzero: a 0 in the shape is an empty axis, not "as before"
  toOnnx: ({ shape }) => ({ opType: 'Reshape', inputs: [0, int64List(...shape)], attributes: { allowzero: { int: 1 } } }),
};

/** The same elements in another shape. One axis may be -1: whatever is left. */
export const reshape = (x: Value, shape: Shape): Value => {
  const resolved = resolveShape(x.type.shape, shape);
  return sameShape(resolved, x.type.shape) ? x : apply(reshapeOp, [x], { shape: resolved })[0];
};

const resolveShape = (from: Shape, to: Shape): Shape => {
  const unknownCount = to.filter((size) => size === -1).length;
  if (unknownCount === 0) return to;
  const known = elementCount(to.filter((size) => size !== -1));
  const missing = elementCount(from) / known;
  if (unknownCount > 1 || !Number.isInteger(missing)) {
    throw new ShapeError(`reshape: [${from.join(', ')}] does not fit [${to.join(', ')}], where -1 may stand once for whatever is left`);
  }
  return to.map((size) => (size === -1 ? missing : size));
};

export const transposeOp: Unary<{ readonly permutation: readonly number[] }> = {
  name: 'transpose',
  inferTypes: ([x], { permutation }) => {
    if (
      !sameShape(
        [...permutation].sort((a, b) => a - b),
        [...x.shape.keys()],
      )
    ) {
      throw new ShapeError(`[${permutation.join(', ')}] does not order the axes of [${x.shape.join(', ')}]`);
    }
    return [{ dataType: x.dataType, shape: permutation.map((axis) => x.shape[axis] as number) }];
  },
  reference: ([x], { permutation }) => {
    const strides = stridesOf(x.shape);
    const shape = permutation.map((axis) => x.shape[axis] as number);
    const values = numbersOf(x);
    const offsets = offsetsOf(
      shape,
      permutation.map((axis) => strides[axis] as number),
    );
    return [
      packTensor(
        x.dataType,
        shape,
        Float64Array.from(offsets, (offset) => values[offset] as number),
      ),
    ];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ cotangent: g, attributes: { permutation } }) => [
      transpose(
        g,
        permutation.map((_, axis) => permutation.indexOf(axis)),
      ),
    ],
  },
  toOnnx: ({ permutation }) => ({ opType: 'Transpose', attributes: { perm: { ints: permutation } } }),
};

/** Axis `i` of the result is axis `permutation[i]` of x. */
export const transpose = (x: Value, permutation: readonly number[]): Value =>
  permutation.every((axis, index) => axis === index) && permutation.length === x.type.shape.length
    ? x
    : apply(transposeOp, [x], { permutation })[0];

interface Range {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}

export const sliceOp: Unary<Range> = {
  name: 'slice',
  inferTypes: ([x], { axis, start, end }) => {
    const size = x.shape[axis] as number;
    if (!(Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start <= end && end <= size)) {
      throw new ShapeError(`elements ${start} to ${end} of axis ${axis} of [${x.shape.join(', ')}]`);
    }
    return [{ dataType: x.dataType, shape: x.shape.with(axis, end - start) }];
  },
  reference: ([x], { axis, start, end }) => {
    const strides = stridesOf(x.shape);
    const shape = x.shape.with(axis, end - start);
    const values = numbersOf(x);
    const offsets = offsetsOf(shape, strides, start * (strides[axis] as number));
    return [
      packTensor(
        x.dataType,
        shape,
        Float64Array.from(offsets, (offset) => values[offset] as number),
      ),
    ];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x], cotangent: g, attributes: { axis, start, end } }) => [pad(g, axis, start, (x.type.shape[axis] as number) - end)],
  },
  toOnnx: ({ axis, start, end }) => ({ opType: 'Slice', inputs: [0, int64List(start), int64List(end), int64List(axis)] }),
};

/** Elements `start` (inclusive) to `end` (exclusive) of one axis; negative positions count from the end. */
export const slice = (x: Value, axis: number, start: number, end: number): Value => {
  const normal = normalAxis(axis, x.type.shape.length);
  const size = x.type.shape[normal] as number;
  const from = start < 0 ? start + size : start;
  const to = end < 0 ? end + size : end;
  return from === 0 && to === size ? x : apply(sliceOp, [x], { axis: normal, start: from, end: to })[0];
};

interface Padding {
  readonly axis: number;
  readonly before: number;
  readonly after: number;
}

export const padOp: Unary<Padding> = {
  name: 'pad',
  inferTypes: ([x], { axis, before, after }) => {
    if (!(Number.isInteger(before) && Number.isInteger(after) && before >= 0 && after >= 0)) {
      throw new ShapeError(`${before} and ${after} zeros around axis ${axis} of [${x.shape.join(', ')}]`);
    }
    return [{ dataType: x.dataType, shape: x.shape.with(axis, (x.shape[axis] as number) + before + after) }];
  },
  reference: ([x], { axis, before, after }) => {
    const shape = x.shape.with(axis, (x.shape[axis] as number) + before + after);
    const strides = stridesOf(shape);
    const values = numbersOf(x);
    const padded = new Float64Array(elementCount(shape));
    offsetsOf(x.shape, strides, before * (strides[axis] as number)).forEach((offset, index) => {
      padded[offset] = values[index] as number;
    });
    return [packTensor(x.dataType, shape, padded)];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x], cotangent: g, attributes: { axis, before } }) => [slice(g, axis, before, before + (x.type.shape[axis] as number))],
  },
  // Without a value ONNX pads with zeros of x's type. All axes are named: ONNX Runtime 1.30 moves transpositions past a Pad as if they were.
  toOnnx: ({ axis, before, after }, [x]) => {
    const around = (count: number): number[] => x.shape.map((_, place) => (place === axis ? count : 0));
    return { opType: 'Pad', inputs: [0, int64List(...around(before), ...around(after))] };
  },
};

/** Zeros before and after the elements of one axis. */
export const pad = (x: Value, axis: number, before: number, after: number): Value =>
  before === 0 && after === 0 ? x : apply(padOp, [x], { axis: normalAxis(axis, x.type.shape.length), before, after })[0];

export const concatOp: Op<readonly Value[], readonly [Value], { readonly axis: number }> = {
  name: 'concat',
  inferTypes: (types, { axis }) => {
    const first = types[0];
    if (first === undefined) throw new ShapeError('nothing to concatenate');
    for (const type of types) {
      const fits = type.dataType === first.dataType && sameShape(type.shape.toSpliced(axis, 1), first.shape.toSpliced(axis, 1));
      if (!fits || type.shape.length !== first.shape.length) {
        throw new ShapeError(`parts that differ elsewhere than along axis ${axis}`);
      }
    }
    const size = types.reduce((sum, type) => sum + (type.shape[axis] as number), 0);
    return [{ dataType: first.dataType, shape: first.shape.with(axis, size) }];
  },
  reference: (parts, { axis }) => {
    const first = parts[0] as (typeof parts)[number];
    const size = parts.reduce((sum, part) => sum + (part.shape[axis] as number), 0);
    const shape = first.shape.with(axis, size);
    const strides = stridesOf(shape);
    const result = new Float64Array(elementCount(shape));
    let position = 0;
    for (const part of parts) {
      const values = numbersOf(part);
      offsetsOf(part.shape, strides, position * (strides[axis] as number)).forEach((offset, index) => {
        result[offset] = values[index] as number;
      });
      position += part.shape[axis] as number;
    }
    return [packTensor(first.dataType, shape, result)];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs, cotangent: g, attributes: { axis }, wants }) => {
      const ends = runningSums(inputs.map((value) => value.type.shape[axis] as number));
      return ends.map((end, index) => (wants(index) ? slice(g, axis, ends[index - 1] ?? 0, end) : undefined));
    },
  },
  toOnnx: ({ axis }) => ({ opType: 'Concat', attributes: { axis: { int: axis } } }),
};

/** The values one after the other along an axis. */
export const concat = (values: readonly Value[], axis: number): Value => {
  const [first] = values;
  if (first === undefined) throw new ShapeError('concat: nothing to concatenate');
  return values.length === 1 ? first : apply(concatOp, values, { axis: normalAxis(axis, first.type.shape.length) })[0];
};

const runningSums = (sizes: readonly number[]): number[] => {
  let sum = 0;
  return sizes.map((size) => {
    sum += size;
    return sum;
  });
};
