import { ShapeError } from '../base/errors.ts';

/** Element types. `float64` exists for the reference interpreter alone, which measures gradients in it. */
export type DataType = 'float32' | 'float64' | 'float16' | 'int32' | 'int64' | 'int8' | 'uint8' | 'bool';

export type Shape = readonly number[];

export interface TensorType {
  readonly dataType: DataType;
  readonly shape: Shape;
}

/** Elements of a tensor on the host, row-major. int64 values are held as numbers wherever they are small: ids and indices. */
export interface HostTensor extends TensorType {
  readonly data: HostData;
}

export type HostData = Float32Array | Float64Array | Uint16Array | Int32Array | BigInt64Array | Int8Array | Uint8Array;

export const elementCount = (shape: Shape): number => shape.reduce((product, size) => product * size, 1);

export const bytesPerElement: Readonly<Record<DataType, number>> = {
  float32: 4,
  float64: 8,
  float16: 2,
  int32: 4,
  int64: 8,
  int8: 1,
  uint8: 1,
  bool: 1,
};

export const float32 = (...shape: number[]): TensorType => ({ dataType: 'float32', shape });
export const int32 = (...shape: number[]): TensorType => ({ dataType: 'int32', shape });

export const describeType = (type: TensorType): string => `${type.dataType}[${type.shape.join(', ')}]`;

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, axis) => size === b[axis]);

/** The shape of an elementwise result under NumPy's broadcasting rule. */
export const broadcastShape = (a: Shape, b: Shape): Shape => {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const left = a[axis - rank + a.length] ?? 1;
    const right = b[axis - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new ShapeError(`[${a.join(', ')}] and [${b.join(', ')}] do not broadcast: axis ${axis} has ${left} and ${right} elements`);
    }
    return left === 1 ? right : left;
  });
};

/** An axis counted from the front, for one that may be counted from the back (-1 is the last). */
export const normalAxis = (axis: number, rank: number): number => {
  const positive = axis < 0 ? axis + rank : axis;
  if (positive < 0 || positive >= rank) throw new ShapeError(`axis ${axis} of a tensor of rank ${rank}`);
  return positive;
};
