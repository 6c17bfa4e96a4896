import type { DataType, HostTensor } from '../graph/tensor-type.ts';

/** ONNX's TensorProto.DataType numbers. */
export const onnxTypeCodes: Readonly<Record<DataType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};

/** A list of integers as the constant that ONNX operators take for shapes and axes. */
export const int64List = (...values: readonly number[]): HostTensor => ({
  dataType: 'int64',
  shape: [values.length],
  data: BigInt64Array.from(values.map(BigInt)),
});
