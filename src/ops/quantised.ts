import { ShapeError } from '../base/errors.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import { apply, type Op, type Value } from '../graph/value.ts';
import { numbersOf, packTensor } from './host-tensors.ts';

/** What stands for 0 in unsigned bytes. */
export const zeroPoint = 128;

/** round, halves to the even neighbour: as ONNX's QuantizeLinear rounds. */
const roundHalfEven = (x: number): number => {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
};

/** q = clamp(round(x / s) + 128, 0, 255) with a scale s for each row: float32 [rows, columns] and [rows] to uint8 [rows, columns]. */
export const quantizeRowsOp: Op<readonly [Value, Value], readonly [Value]> = {
  name: 'quantizeRows',
  inferTypes: ([x, scales]) => {
    if (x.shape.length !== 2 || scales.shape.length !== 1 || scales.shape[0] !== x.shape[0]) {
      throw new ShapeError('rows of a matrix are quantised, each with one scale');
    }
    if (x.dataType !== 'float32' || scales.dataType !== 'float32') throw new ShapeError('matrix and scales must be float32');
    return [{ dataType: 'uint8', shape: x.shape }];
  },
  reference: ([x, scales]) => {
    const [values, factors] = [numbersOf(x), numbersOf(scales)];
    const columns = x.shape[1] as number;
    const quantised = Array.from(values, (value, index) => {
      const level = roundHalfEven(value / (factors[Math.floor(index / columns)] as number)) + zeroPoint;
      return Math.min(255, Math.max(0, level));
    });
    return [packTensor('uint8', x.shape, quantised)];
  },
  gradient: { kind: 'none' },
  toOnnx: (_, [x]) => ({ opType: 'QuantizeLinear', inputs: [0, 1, zeroPoints(x.shape[0] as number)], attributes: { axis: { int: 0 } } }),
};

const zeroPoints = (...shape: number[]): HostTensor => ({
  dataType: 'uint8',
  shape,
  data: new Uint8Array(shape[0] ?? 1).fill(zeroPoint),
});

export const quantizeRows = (x: Value, scales: Value): Value => apply(quantizeRowsOp, [x, scales], {})[0];

/** (q − 128)·s with a scale s for each row: uint8 [rows, columns] and float32 [rows] to float32 [rows, columns]. */
export const dequantizeRowsOp: Op<readonly [Value, Value], readonly [Value]> = {
  name: 'dequantizeRows',
  inferTypes: ([bytes, scales]) => {
    if (bytes.shape.length !== 2 || scales.shape.length !== 1 || scales.shape[0] !== bytes.shape[0]) {
      throw new ShapeError('rows of a matrix, each with one scale');
    }
    if (bytes.dataType !== 'uint8' || scales.dataType !== 'float32') throw new ShapeError('uint8 and scales in float32');
    return [{ dataType: 'float32', shape: bytes.shape }];
  },
  reference: ([bytes, scales]) => {
    const [levels, factors] = [numbersOf(bytes), numbersOf(scales)];
    const columns = bytes.shape[1] as number;
    const values = Array.from(levels, (level, index) => (level - zeroPoint) * (factors[Math.floor(index / columns)] as number));
    return [packTensor('float32', bytes.shape, values)];
  },
  gradient: { kind: 'none' },
  toOnnx: (_, [bytes]) => ({
    opType: 'DequantizeLinear',
    inputs: [0, 1, zeroPoints(bytes.shape[0] as number)],
    attributes: { axis: { int: 0 } },
  }),
};

export const dequantizeRows = (bytes: Value, scales: Value): Value => apply(dequantizeRowsOp, [bytes, scales], {})[0];

/**
 * y = (a − 128)·(b − z)·diag(s), summed in 32-bit integers: uint8 [rows, inner], int8 (z = 0) or uint8 (z = 128) [inner, columns], float32
 * [columns], to float32 [rows, columns]. Where a processor adds pairs of u8 × s8 products in 16 bits, an int8 b gives wrong sums
 * (`engines/integer-form.ts` finds out).
 */
export const integerProductOp: Op<readonly [Value, Value, Value], readonly [Value]> = {
  name: 'integerProduct',
  inferTypes: ([a, b, scales]) => {
    if (a.dataType !== 'uint8' || (b.dataType !== 'int8' && b.dataType !== 'uint8') || scales.dataType !== 'float32') {
      throw new ShapeError('uint8 times int8 or uint8 with float32 scales');
    }
    const [rows, inner] = a.shape;
    const [innerB, columns] = b.shape;
    if (a.shape.length !== 2 || b.shape.length !== 2 || inner !== innerB)
      throw new ShapeError('two matrices whose inner sizes are the same');
    if (scales.shape.length !== 1 || scales.shape[0] !== columns) throw new ShapeError('a scale for each column');
    return [{ dataType: 'float32', shape: [rows as number, columns as number] }];
  },
  reference: ([a, b, scales]) => {
    const [left, right, factors] = [numbersOf(a), numbersOf(b), numbersOf(scales)];
    const zero = b.dataType === 'int8' ? 0 : zeroPoint;
    const [rows, inner] = a.shape as [number, number];
    const columns = b.shape[1] as number;
    const result = new Float64Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (let k = 0; k < inner; k++) {
          sum += ((left[row * inner + k] as number) - zeroPoint) * ((right[k * columns + column] as number) - zero);
        }
        result[row * columns + column] = sum * (factors[column] as number);
      }
    }
    return [packTensor('float32', [rows, columns], result)];
  },
  gradient: { kind: 'none' },
  toOnnx: (_, [, b]) => ({
    opType: 'MatMulIntegerToFloat',
    domain: 'com.microsoft',
    inputs: [0, 1, one, 2, zeroPoints(), ...(b.dataType === 'uint8' ? [zeroPoints()] : [])],
  }),
};

const one: HostTensor = { dataType: 'float32', shape: [], data: Float32Array.of(1) };

export const integerProduct = (a: Value, b: Value, columnScales: Value): Value => apply(integerProductOp, [a, b, columnScales], {})[0];
