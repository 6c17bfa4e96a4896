import { ShapeError } from '../base/errors.ts';
import { type HostTensor, type TensorType } from '../graph/tensor-type.ts';
import { apply, type Op, scalar, type Value } from '../graph/value.ts';
import { reduceSum, sumTo } from './broadcasting.ts';
import { add, exp, log, mul, neg, reciprocal, sqrt, sub } from './elementwise.ts';
import { numbersOf, packTensor } from './host-tensors.ts';
import { scatterElementsAdd, scatteredOverZeros } from './indexing.ts';
import { reduceMax, reduceMean } from './reduce.ts';

type Unary = Op<readonly [Value], readonly [Value]>;

const checkLastAxis = (x: TensorType): void => {
  if (x.shape.length === 0 || x.shape.at(-1) === 0) throw new ShapeError(`[${x.shape.join(', ')}] has no last axis to work along`);
};

/** The last axis of every row put through `f`. */
const mapRows = (x: HostTensor, f: (row: Float64Array) => ArrayLike<number>): Float64Array => {
  const width = x.shape.at(-1) as number;
  const values = Float64Array.from(numbersOf(x));
  const result = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += width) result.set(f(values.subarray(start, start + width)), start);
  return result;
};

export const softmaxOp: Unary = {
  name: 'softmax',
  inferTypes: ([x]) => {
    checkLastAxis(x);
    return [x];
  },
  reference: ([x]) => [
    packTensor(
      x.dataType,
      x.shape,
      mapRows(x, (row) => {
        const greatest = row.reduce((a, b) => Math.max(a, b));
        const powers = row.map((value) => Math.exp(value - greatest));
        const sum = powers.reduce((a, b) => a + b);
        return powers.map((power) => power / sum);
      }),
    ),
  ],
  // p = softmax(x): dx = p·(g - Σ g·p)
  gradient: {
    kind: 'exact',
    vjp: ({ outputs: [p], cotangent: g }) => [mul(p, sub(g, reduceSum(mul(g, p), [-1], true)))],
  },
  toOnnx: () => ({ opType: 'Softmax', attributes: { axis: { int: -1 } } }),
};

/** Probabilities over the last axis. */
export const softmax = (x: Value): Value => apply(softmaxOp, [x], {})[0];

export const logSoftmaxOp: Unary = {
  name: 'logSoftmax',
  inferTypes: ([x]) => {
    checkLastAxis(x);
    return [x];
  },
  reference: ([x]) => [
    packTensor(
      x.dataType,
      x.shape,
      mapRows(x, (row) => {
        const greatest = row.reduce((a, b) => Math.max(a, b));
        const logSum = greatest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
        return row.map((value) => value - logSum);
      }),
    ),
  ],
  // y = log softmax(x): dx = g - exp(y)·Σ g. Where g is zero but at a few chosen elements, as for the likelihood of targets, those are
  // summed and added alone: over 49,152 words that saves three passes of six.
  gradient: {
    kind: 'exact',
    vjp: ({ outputs: [y], cotangent: g }) => {
      const chosen = scatteredOverZeros(g);
      if (chosen?.axis === y.type.shape.length - 1 && chosen.indices.type.shape.slice(0, -1).join() === y.type.shape.slice(0, -1).join()) {
        const spread = mul(exp(y), neg(reduceSum(chosen.updates, [-1], true)));
        return [scatterElementsAdd(spread, chosen.indices, chosen.updates, -1)];
      }
      return [sub(g, mul(exp(y), reduceSum(g, [-1], true)))];
    },
  },
  toOnnx: () => ({ opType: 'LogSoftmax', attributes: { axis: { int: -1 } } }),
  // x − max − log Σ exp(x − max)
  inSimplerOps: ([x]) => {
    const centred = sub(x, reduceMax(x, [-1], true));
    return [sub(centred, log(reduceSum(exp(centred), [-1], true)))];
  },
};

/** Log-probabilities over the last axis. */
export const logSoftmax = (x: Value): Value => apply(logSoftmaxOp, [x], {})[0];

interface Epsilon {
  readonly epsilon: number;
}

const checkScale = (x: TensorType, name: string, scale: TensorType): void => {
  checkLastAxis(x);
  if (scale.shape.length !== 1 || scale.shape[0] !== x.shape.at(-1) || scale.dataType !== x.dataType) {
    throw new ShapeError(`a ${name} of [${scale.shape.join(', ')}] for rows of [${x.shape.join(', ')}]`);
  }
};

const statisticsType = (x: TensorType): TensorType => ({ dataType: x.dataType, shape: x.shape.with(-1, 1) });

/** [y, r]: r = (mean(x²) + ε)^(-1/2) over the last axis, y = x·r·scale. */
export const rmsNormOp: Op<readonly [Value, Value], readonly [Value, Value], Epsilon> = {
  name: 'rmsNorm',
  inferTypes: ([x, scale]) => {
    checkScale(x, 'scale', scale);
    return [x, statisticsType(x)];
  },
  reference: ([x, scale], { epsilon }) => {
    const factors = numbersOf(scale);
    const inverse: number[] = [];
    const y = mapRows(x, (row) => {
      const r = 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + epsilon);
      inverse.push(r);
      return row.map((value, column) => value * r * (factors[column] as number));
    });
    return [packTensor(x.dataType, x.shape, y), packTensor(x.dataType, statisticsType(x).shape, inverse)];
  },
  // dr = -r³·x/n·dx. With w = g·scale: dx = r·w - x·(r³/n·Σ w·x + …) and the same factor takes r's own cotangent; dscale = Σ_rows g·x·r.
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x, scale], outputs: [, r], cotangents: [g, inverseCotangent], wants }) => {
      const perWidth = scalar(1 / (x.type.shape.at(-1) as number));
      const cubed = mul(mul(r, mul(r, r)), perWidth); // [..., 1]
      const weighted = g === undefined ? undefined : mul(g, scale);
      const dots = [
        ...(weighted === undefined ? [] : [reduceSum(mul(weighted, x), [-1], true)]),
        ...(inverseCotangent === undefined ? [] : [inverseCotangent]),
      ].reduce(add);
      const through = mul(x, mul(cubed, dots));
      return [
        wants(0) ? (weighted === undefined ? neg(through) : sub(mul(weighted, r), through)) : undefined,
        wants(1) && g !== undefined ? sumTo(mul(g, mul(x, r)), scale.type.shape) : undefined,
      ];
    },
  },
  // ONNX Runtime registers its own operator in the standard domain, under version 1.
  toOnnx: ({ epsilon }) => ({ opType: 'SimplifiedLayerNormalization', attributes: { axis: { int: -1 }, epsilon: { float: epsilon } } }),
  // On WebGPU the second output holds the means, not r (onnxruntime-node 1.30); the first is right.
  inSimplerOps: ([x, scale], { epsilon }) => [
    rmsNorm(x, scale, epsilon)[0],
    reciprocal(sqrt(add(reduceMean(mul(x, x), [-1], true), scalar(epsilon)))),
  ],
};

/**
 * Root-mean-square normalisation of the last axis (Zhang and Sennrich 2019), and the inverse deviation [..., 1] of each row, which the
 * gradient takes rather than computes again.
 */
export const rmsNorm = (x: Value, scale: Value, epsilon: number): readonly [Value, Value] => apply(rmsNormOp, [x, scale], { epsilon });

/** [y, μ, r]: μ the mean and r = (variance + ε)^(-1/2) over the last axis, y = (x - μ)·r·scale + bias. */
export const layerNormOp: Op<readonly [Value, Value, Value], readonly [Value, Value, Value], Epsilon> = {
  name: 'layerNorm',
  inferTypes: ([x, scale, bias]) => {
    checkScale(x, 'scale', scale);
    checkScale(x, 'bias', bias);
    return [x, statisticsType(x), statisticsType(x)];
  },
  reference: ([x, scale, bias], { epsilon }) => {
    const [factors, offsets] = [numbersOf(scale), numbersOf(bias)];
    const [means, inverse]: [number[], number[]] = [[], []];
    const y = mapRows(x, (row) => {
      const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
      const r = 1 / Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length + epsilon);
      means.push(mean);
      inverse.push(r);
      return row.map((value, column) => (value - mean) * r * (factors[column] as number) + (offsets[column] as number));
    });
    const { shape } = statisticsType(x);
    return [packTensor(x.dataType, x.shape, y), packTensor(x.dataType, shape, means), packTensor(x.dataType, shape, inverse)];
  },
  // With z = (x - μ)·r and w = g·scale: dx = r·(w - mean(w) - z·mean(w·z)), dscale = Σ_rows g·z, dbias = Σ_rows g.
  // The function below hands out y alone, so nothing flows back into μ and r.
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [x, scale, bias], outputs: [, mean, r], cotangent: g, wants }) => {
      const perWidth = scalar(1 / (x.type.shape.at(-1) as number));
      const normal = mul(sub(x, mean), r);
      const rowMean = (value: Value): Value => mul(reduceSum(value, [-1], true), perWidth);
      const inputCotangent = (): Value => {
        const weighted = mul(g, scale);
        return mul(r, sub(sub(weighted, rowMean(weighted)), mul(normal, rowMean(mul(weighted, normal)))));
      };
      return [
        wants(0) ? inputCotangent() : undefined,
        wants(1) ? sumTo(mul(g, normal), scale.type.shape) : undefined,
        wants(2) ? sumTo(g, bias.type.shape) : undefined,
      ];
    },
  },
  toOnnx: ({ epsilon }) => ({ opType: 'LayerNormalization', attributes: { axis: { int: -1 }, epsilon: { float: epsilon } } }),
};

/** Normalises the last axis to mean 0 and deviation 1, then scales and shifts (Ba et al. 2016). */
export const layerNorm = (x: Value, scale: Value, bias: Value, epsilon: number): Value =>
  apply(layerNormOp, [x, scale, bias], { epsilon })[0];
