import { ShapeError } from '../base/errors.ts';
import { describeType, elementCount, normalAxis, type Shape, sameShape, type TensorType } from '../graph/tensor-type.ts';
import { type AnyOp, apply, type Node, type Op, type Value } from '../graph/value.ts';
import { expand, expandOp } from './broadcasting.ts';
import { cast, castOp, less, lessOp } from './elementwise.ts';
import { numbersOf, offsetsOf, packTensor, stridesOf } from './host-tensors.ts';
import { reshape, slice, transpose } from './shape.ts';

interface Axis {
  readonly axis: number;
}

const checkIndices = (indices: TensorType): void => {
  if (indices.dataType !== 'int32' && indices.dataType !== 'int64') {
    throw new ShapeError(`indices are int32 or int64, not ${indices.dataType}`);
  }
};

/** A reference's index, which may count from the end, checked. */
const position = (index: number, size: number): number => {
  if (!(index >= -size && index < size)) throw new ShapeError(`index ${index} into ${size} elements`);
  return index < 0 ? index + size : index;
};

export const gatherOp: Op<readonly [Value, Value], readonly [Value], Axis> = {
  name: 'gather',
  inferTypes: ([x, indices], { axis }) => {
    checkIndices(indices);
    return [{ dataType: x.dataType, shape: x.shape.toSpliced(axis, 1, ...indices.shape) }];
  },
  reference: ([x, indices], { axis }) => {
    const size = x.shape[axis] as number;
    const inner = elementCount(x.shape.slice(axis + 1));
    const outer = elementCount(x.shape.slice(0, axis));
    const [values, ids] = [numbersOf(x), numbersOf(indices)];
    const result = new Float64Array(outer * ids.length * inner);
    for (let index = 0; index < result.length; index++) {
      const row = position(ids[Math.floor(index / inner) % ids.length] as number, size);
      result[index] = values[(Math.floor(index / (inner * ids.length)) * size + row) * inner + (index % inner)] as number;
    }
    return [packTensor(x.dataType, x.shape.toSpliced(axis, 1, ...indices.shape), result)];
  },
  gradient: {
    kind: 'exact',
    // Rows that were read several times receive several cotangents. Along another axis than the first, that axis goes to the front and back.
    vjp: ({ inputs: [x, indices], cotangent: g, attributes: { axis } }) => {
      const order = [...x.type.shape.keys()];
      const front = [axis, ...order.toSpliced(axis, 1)];
      const indexRank = indices.type.shape.length;
      const all = [...g.type.shape.keys()];
      const updates = transpose(g, [...all.slice(axis, axis + indexRank), ...all.toSpliced(axis, indexRank)]);
      const target = zerosAtRunTime(
        front.map((from) => x.type.shape[from] as number),
        g,
      );
      const summed = scatterAdd(target, indices, updates);
      return [
        transpose(
          summed,
          order.map((_, to) => front.indexOf(to)),
        ),
        undefined,
      ];
    },
  },
  toOnnx: ({ axis }) => ({ opType: 'Gather', attributes: { axis: { int: axis } } }),
};

/** Picks slices of x along an axis: the shape of the indices stands where the axis was. A table of embeddings and token ids, for instance. */
export const gather = (x: Value, indices: Value, axis = 0): Value =>
  apply(gatherOp, [x, indices], { axis: normalAxis(axis, x.type.shape.length) })[0];

/**
 * target with updates[i] added to its row indices[i]; repeated indices add up. Shapes: [rows, ...d], [...i], [...i, ...d].
 *
 * Written by elements: ScatterND with reduction "add", which adds whole rows, loses updates of repeated rows when it runs on several
 * threads (onnxruntime-node 1.30: 11 of 50 runs on two threads gave a wrong sum).
 */
export const scatterAdd = (target: Value, indices: Value, updates: Value): Value => {
  const { shape } = target.type;
  const expected = [...indices.type.shape, ...shape.slice(1)];
  if (shape.length === 0 || !sameShape(updates.type.shape, expected)) {
    const all = [target, indices, updates].map((value) => describeType(value.type)).join(', ');
    throw new ShapeError(`scatterAdd of ${all}: updates of [${expected.join(', ')}] would fit`);
  }
  const rows: Shape = [elementCount(indices.type.shape), elementCount(shape.slice(1))];
  const places = expand(reshape(indices, [rows[0] as number, 1]), rows);
  const flat = reshape(target, [shape[0] as number, rows[1] as number]);
  return reshape(scatterElementsAdd(flat, places, reshape(updates, rows), 0), shape);
};

/**
 * Zeros that ONNX Runtime cannot compute ahead: folded into a constant they would be held beside every copy made of them, 113 MB for the
 * embedding of SmolLM2. Nothing is less than itself, not even NaN.
 */
const zerosAtRunTime = (shape: Shape, present: Value): Value => {
  const element = reshape(slice(reshape(present, [-1]), 0, 0, 1), []);
  return expand(cast(less(element, element), 'float32'), shape);
};

/** For every element of `indices`, in order: where it reads or writes in a tensor of shape `from`. */
const elementOffsets = (from: Shape, indices: { readonly shape: Shape; readonly values: ArrayLike<number> }, axis: number): Int32Array => {
  const strides = stridesOf(from);
  const stride = strides[axis] as number;
  return offsetsOf(indices.shape, strides.with(axis, 0)).map(
    (offset, index) => offset + stride * position(indices.values[index] as number, from[axis] as number),
  );
};

const checkElementIndices = (x: TensorType, indices: TensorType, axis: number): void => {
  checkIndices(indices);
  const fits =
    indices.shape.length === x.shape.length && indices.shape.every((size, other) => other === axis || size <= (x.shape[other] as number));
  if (!fits)
    throw new ShapeError(
      `indices of [${indices.shape.join(', ')}] reach outside of [${x.shape.join(', ')}] along an axis other than ${axis}`,
    );
};

export const gatherElementsOp: Op<readonly [Value, Value], readonly [Value], Axis> = {
  name: 'gatherElements',
  inferTypes: ([x, indices], { axis }) => {
    checkElementIndices(x, indices, axis);
    return [{ dataType: x.dataType, shape: indices.shape }];
  },
  reference: ([x, indices], { axis }) => {
    const values = numbersOf(x);
    const offsets = elementOffsets(x.shape, { shape: indices.shape, values: numbersOf(indices) }, axis);
    return [
      packTensor(
        x.dataType,
        indices.shape,
        Float64Array.from(offsets, (offset) => values[offset] as number),
      ),
    ];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x, indices], cotangent: g, attributes: { axis } }) => [
      scatterElementsAdd(zerosAtRunTime(x.type.shape, g), indices, g, axis),
      undefined,
    ],
  },
  toOnnx: ({ axis }) => ({ opType: 'GatherElements', attributes: { axis: { int: axis } } }),
};

/** One element of x for each of `indices`, whose position along `axis` is the index and elsewhere its own. */
export const gatherElements = (x: Value, indices: Value, axis: number): Value =>
  apply(gatherElementsOp, [x, indices], { axis: normalAxis(axis, x.type.shape.length) })[0];

export const scatterElementsAddOp: Op<readonly [Value, Value, Value], readonly [Value], Axis> = {
  name: 'scatterElementsAdd',
  inferTypes: ([target, indices, updates], { axis }) => {
    checkElementIndices(target, indices, axis);
    if (!sameShape(indices.shape, updates.shape) || updates.dataType !== target.dataType) {
      throw new ShapeError(`updates of ${describeType(updates)} for indices of ${describeType(indices)} into ${describeType(target)}`);
    }
    return [target];
  },
  reference: ([target, indices, updates], { axis }) => {
    const values = numbersOf(updates);
    const result = Float64Array.from(numbersOf(target));
    elementOffsets(target.shape, { shape: indices.shape, values: numbersOf(indices) }, axis).forEach((offset, index) => {
      result[offset] = (result[offset] as number) + (values[index] as number);
    });
    return [packTensor(target.dataType, target.shape, result)];
  },
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [, indices], cotangent: g, attributes: { axis }, wants }) => [
      g,
      undefined,
      wants(2) ? gatherElements(g, indices, axis) : undefined,
    ],
  },
  toOnnx: ({ axis }) => ({ opType: 'ScatterElements', attributes: { axis: { int: axis }, reduction: { string: 'add' } } }),
};

/** target with each update added at the element that `gatherElements` would read; repeated indices add up. */
export const scatterElementsAdd = (target: Value, indices: Value, updates: Value, axis: number): Value =>
  apply(scatterElementsAddOp, [target, indices, updates], { axis: normalAxis(axis, target.type.shape.length) })[0];

/**
 * What was scattered and where, if the value is the gradient that `gatherElements` makes and zero everywhere else. A rule may use it to
 * spare itself passes over zeros.
 */
export const scatteredOverZeros = (
  value: Value,
): { readonly indices: Value; readonly updates: Value; readonly axis: number } | undefined => {
  const node = madeBy(value, scatterElementsAddOp);
  const [target, indices, updates] = node?.inputs ?? [];
  if (node === undefined || target === undefined || indices === undefined || updates === undefined || !isZeroAtRunTime(target))
    return undefined;
  return { indices, updates, axis: (node.attributes as Axis).axis };
};

/** Whether `zerosAtRunTime` made the value: a cast of something being less than itself, repeated. */
const isZeroAtRunTime = (value: Value): boolean => {
  const flag = madeBy(madeBy(value, expandOp)?.inputs[0], castOp)?.inputs[0];
  const [a, b] = madeBy(flag, lessOp)?.inputs ?? [];
  return a !== undefined && a === b;
};

const madeBy = (value: Value | undefined, op: AnyOp): Node | undefined =>
  value?.origin.kind === 'node' && value.origin.node.op === op ? value.origin.node : undefined;
