import type { TensorType } from '../graph/tensor-type.ts';
import { scalar, type Value } from '../graph/value.ts';
import { zeros } from '../ops/broadcasting.ts';
import { add, exp, maximum, mul, neg, sub } from '../ops/elementwise.ts';
import { gather, gatherElements, scatterElementsAdd } from '../ops/indexing.ts';
import { logSoftmax } from '../ops/normalisation.ts';
import { dequantizeRows, integerProduct, quantizeRows } from '../ops/quantised.ts';
import { reduceMax, reduceMin } from '../ops/reduce.ts';
import { concat, reshape } from '../ops/shape.ts';
import { surrogate } from '../ops/surrogate.ts';
import type { FrozenHead } from './frozen-head.ts';
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
 * of activations or cotangents and for each channel of the weights. What is summed is exact in 32-bit integers. Inputs with outliers are two
 * products: their rounding to bytes, and that of what the first left over.
 *
 * @param parameter a frozen value by its name, as `weights/int8-weights.ts` writes them
 */
export const int8Products =
  (form: ByteForm, parameter: (name: string, type: TensorType) => Value): FrozenProducts =>
  (modules, x) => {
    const inputCount = x.type.shape[1] as number;
    const multiply = (a: Quantised, name: string, inner: number, columns: number): Value =>
      byteProduct(a, bytesAndScales(form, parameter, name, inner, columns));
    const quantised = quantisedTogether([x]);
    const rest = modules.some(({ hasOutliers }) => hasOutliers) ? remainder(x, quantised) : undefined;
    const products = modules.map(({ module, outputCount }) => {
      const product = (a: Quantised): Value => multiply(a, forwardBytesName(module), inputCount, outputCount);
      return rest === undefined ? product(quantised) : add(product(quantised), product(rest));
    });
    return surrogate([x], products, (cotangents) => {
      const rowCount = x.type.shape[0] as number;
      const flowing = modules.map(({ outputCount }, index) => cotangents[index] ?? zeros([rowCount, outputCount]));
      const outputCount = modules.reduce((sum, part) => sum + part.outputCount, 0);
      const name = backwardBytesName(modules.map(({ module }) => module));
      return [multiply(quantisedTogether(flowing), name, outputCount, inputCount)];
    });
  };

/** Names of the head's matrix as bytes. Its vocabulary's mean row is taken out first, and has a name of its own, [inputs]. */
export const headNames = (head: string) => ({ forward: `${head}:forward`, backward: `${head}:backward`, mean: `${head}:mean` });

/**
 * The likelihood with a frozen head E in 8 bits. Two things keep its gradient faithful: the rows of E are quantised without their mean m, which
 * softmax does not see and Σ_v dlogits = 0 takes out of the gradient; and the target's own entry, which outweighs all others, is left out of
 * what is quantised. With p = softmax and p₀ = p but 0 at the target t: dx = p₀·(E − m) + (p_t − 1)·(E_t − m), the second term in float32.
 */
export const int8Head =
  (form: ByteForm, parameter: (name: string, type: TensorType) => Value): FrozenHead =>
  (head, x, targets, vocabularySize) => {
    const [tokenCount, inputCount] = x.type.shape as [number, number];
    const names = headNames(head);
    const matrix = (name: string, inner: number, columns: number) => bytesAndScales(form, parameter, name, inner, columns);
    const logits = byteProduct(quantisedTogether([x]), matrix(names.forward, inputCount, vocabularySize));
    const places = reshape(targets, [tokenCount, 1]);
    const logProbabilities = logSoftmax(logits);
    const chosen = gatherElements(logProbabilities, places, 1); // [tokens, 1]
    const ofTarget = exp(chosen);
    const others = scatterElementsAdd(exp(logProbabilities), places, neg(ofTarget), 1);
    // Probabilities are not negative: their magnitude is their maximum
    const back = byteProduct(quantisedBy(reduceMax(others, [1]), [others]), matrix(names.backward, vocabularySize, inputCount));
    const rows = gather(parameter(head, { dataType: 'float32', shape: [vocabularySize, inputCount] }), targets, 0);
    const own = sub(rows, parameter(names.mean, { dataType: 'float32', shape: [inputCount] }));
    return { likelihood: neg(reshape(chosen, [tokenCount])), slope: add(back, mul(own, sub(ofTarget, scalar(1)))) };
  };

interface Quantised {
  /** uint8 [rows, columns of all parts] */
  readonly bytes: Value;
  /** [rows] */
  readonly scales: Value;
}

interface ByteWeights {
  readonly bytes: Value;
  readonly scales: Value;
}

const bytesAndScales = (
  form: ByteForm,
  parameter: (name: string, type: TensorType) => Value,
  name: string,
  inner: number,
  columns: number,
): ByteWeights => ({
  bytes: parameter(name, { dataType: form, shape: [inner, columns] }),
  scales: parameter(scaleName(name), { dataType: 'float32', shape: [columns] }),
});

const byteProduct = (a: Quantised, { bytes, scales }: ByteWeights): Value =>
  mul(integerProduct(a.bytes, bytes, scales), reshape(a.scales, [-1, 1]));

/** A scale of 0 would divide by 0; one of 1e-20 flushes to 0 in a product of two scales. */
const leastScale = 1e-15;

/** Matrices of equally many rows side by side as bytes, with one scale for each whole row: max|row| / 127. */
const quantisedTogether = (parts: readonly Value[]): Quantised => {
  // max(max x, −min x) is cheaper than max |x|: no third tensor of this size is written
  const magnitudes = parts.map((part) => maximum(reduceMax(part, [1]), neg(reduceMin(part, [1]))));
  return quantisedBy(magnitudes.reduce(maximum), parts);
};

/** x minus what its bytes stand for, as bytes of 254th steps: half a step is the most that is left over. */
const remainder = (x: Value, { bytes, scales }: Quantised): Quantised => {
  const finer = mul(scales, scalar(1 / 254));
  return { bytes: quantizeRows(sub(x, dequantizeRows(bytes, scales)), finer), scales: finer };
};

/** @param magnitudes the largest of each whole row, [rows] */
const quantisedBy = (magnitudes: Value, parts: readonly Value[]): Quantised => {
  const scales = add(mul(magnitudes, scalar(1 / 127)), scalar(leastScale)); // [rows]
  const bytes = parts.map((part) => quantizeRows(part, scales));
  return { bytes: bytes.length === 1 ? (bytes[0] as Value) : concat(bytes, 1), scales };
};
