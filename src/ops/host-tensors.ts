import { InternalError } from '../base/errors.ts';
import { type DataType, elementCount, type HostData, type HostTensor, type Shape } from '../graph/tensor-type.ts';

/** The elements as numbers, row-major. References compute on these and pack the result once, so sums run in float64 whatever the type. */
export const numbersOf = (tensor: HostTensor): ArrayLike<number> => {
  if (tensor.dataType === 'float16') throw new InternalError('references compute in float32 or float64, not in float16');
  return tensor.data instanceof BigInt64Array ? Array.from(tensor.data, Number) : tensor.data;
};

/** Rounds numbers into a tensor of the given type. */
export const packTensor = (dataType: DataType, shape: Shape, values: ArrayLike<number>): HostTensor => {
  if (values.length !== elementCount(shape)) {
    throw new InternalError(`a reference made ${values.length} elements for the shape [${shape.join(', ')}]`);
  }
  return { dataType, shape, data: packers[dataType](values) };
};

const packers: Readonly<Record<DataType, (values: ArrayLike<number>) => HostData>> = {
  float32: (values) => Float32Array.from(values),
  float64: (values) => Float64Array.from(values),
  float16: () => {
    throw new InternalError('references compute in float32 or float64, not in float16');
  },
  int32: (values) => Int32Array.from(values),
  int64: (values) => BigInt64Array.from(Array.from(values, (value) => BigInt(Math.trunc(value)))),
  int8: (values) => Int8Array.from(values),
  uint8: (values) => Uint8Array.from(values),
  bool: (values) => Uint8Array.from(values, (value) => (value === 0 ? 0 : 1)),
};

/** Row-major strides in elements. */
export const stridesOf = (shape: Shape): number[] => {
  const strides = new Array<number>(shape.length).fill(1);
  for (let axis = shape.length - 2; axis >= 0; axis--) strides[axis] = (strides[axis + 1] ?? 1) * (shape[axis + 1] ?? 1);
  return strides;
};

/**
 * For every element of a tensor of `shape`, in row-major order, where it reads from: the sum of coordinate × stride. With a stride of 0
 * along the axes that are broadcast this is broadcasting; with permuted strides it is transposition.
 */
export const offsetsOf = (shape: Shape, strides: readonly number[], start = 0): Int32Array => {
  const count = elementCount(shape);
  const offsets = new Int32Array(count);
  const coordinates = new Array<number>(shape.length).fill(0);
  let offset = start;
  for (let index = 0; index < count; index++) {
    offsets[index] = offset;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const coordinate = (coordinates[axis] as number) + 1;
      offset += strides[axis] as number;
      if (coordinate < (shape[axis] as number)) {
        coordinates[axis] = coordinate;
        break;
      }
      offset -= coordinate * (strides[axis] as number);
      coordinates[axis] = 0;
    }
  }
  return offsets;
};

/** Strides that read `from` as if it had been broadcast to `to`. */
export const broadcastStrides = (from: Shape, to: Shape): number[] => {
  const strides = stridesOf(from);
  const added = to.length - from.length;
  return to.map((_, axis) => (axis < added || from[axis - added] === 1 ? 0 : (strides[axis - added] as number)));
};

/** Where every element of the broadcast shape reads from in a tensor of shape `from`. */
export const broadcastOffsets = (from: Shape, to: Shape): Int32Array => offsetsOf(to, broadcastStrides(from, to));
