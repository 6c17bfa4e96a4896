import type { TensorType } from '../graph/tensor-type.ts';
import { scalar, type Value } from '../graph/value.ts';
import { zeros } from '../ops/broadcasting.ts';
import { add, maximum, mul, neg } from '../ops/elementwise.ts';
import { integerProduct, quantizeRows } from '../ops/quantised.ts';
import { reduceMax, reduceMin } from '../ops/reduce.ts';
import { concat, reshape } from '../ops/shape.ts';
import { surrogate } from '../ops/surrogate.ts';
import type { FrozenProducts } from './scope.ts';

/** How the bytes of frozen matrices are signed: int8, or uint8 around 128 where u8 × s8 products saturate. */
export type ByteForm = 'int8' | 'uint8';

/** Names of a module's matrix as bytes: W transposed, [inputs, outputs], with a scale for each output. */
export const forwardBytesName = (module: string): string => `${module}.weight:forward`;
/** Names of the matrix that takes a group's cotangents back: its modules' W below each other, with a scale for each input. */
export const backwardBytesName = (modules: readonly string[]): string => `${modules.join('+')}.weight:backward`;
export const scaleName = (bytesName: string): string => `${bytesName}:scale`;

/**
 * Frozen products in 8 bits, forward and in the input's gradient (SwitchBack, Wortsman et al. 2023, arXiv 2304.13013): a scale for each row
 * of activations or cotangents and for each channel of the weights. What is summed is exact in 32-bit integers.
 *
 * @param parameter a frozen value by its name, as `weights/int8-weights.ts` writes them
 */
export const int8Products =
  (form: ByteForm, parameter: (name: string, type: TensorType) => Value): FrozenProducts =>
  (modules, x) => {
    const inputCount = x.type.shape[1] as number;
    const multiply = (a: Quantised, name: string, inner: number, columns: number): Value => {
      const bytes = parameter(name, { dataType: form, shape: [inner, columns] });
      const scales = parameter(scaleName(name), { dataType: 'float32', shape: [columns] });
      return mul(integerProduct(a.bytes, bytes, scales), reshape(a.scales, [-1, 1]));
    };
    const quantised = quantisedTogether([x]);
    const products = modules.map(({ module, outputCount }) => multiply(quantised, forwardBytesName(module), inputCount, outputCount));
    return surrogate([x], products, (cotangents) => {
      const rowCount = x.type.shape[0] as number;
      const flowing = modules.map(({ outputCount }, index) => cotangents[index] ?? zeros([rowCount, outputCount]));
      const outputCount = modules.reduce((sum, part) => sum + part.outputCount, 0);
      const name = backwardBytesName(modules.map(({ module }) => module));
      return [multiply(quantisedTogether(flowing), name, outputCount, inputCount)];
    });
  };

interface Quantised {
  /** uint8 [rows, columns of all parts] */
  readonly bytes: Value;
  /** [rows] */
  readonly scales: Value;
}

/** A scale of 0 would divide by 0; one of 1e-20 flushes to 0 in a product of two scales. */
const leastScale = 1e-15;

/** Matrices of equally many rows side by side as bytes, with one scale for each whole row: max|row| / 127. */
const quantisedTogether = (parts: readonly Value[]): Quantised => {
  // max(max x, −min x) is cheaper than max |x|: no third tensor of this size is written
  const magnitudes = parts.map((part) => maximum(reduceMax(part, [1]), neg(reduceMin(part, [1])))).reduce(maximum);
  const scales = add(mul(magnitudes, scalar(1 / 127)), scalar(leastScale)); // [rows]
  const bytes = parts.map((part) => quantizeRows(part, scales));
  return { bytes: bytes.length === 1 ? (bytes[0] as Value) : concat(bytes, 1), scales };
};
