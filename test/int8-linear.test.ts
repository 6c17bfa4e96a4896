import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { type Random, randomFrom } from '../src/base/random.ts';
import { graphOf } from '../src/graph/graph.ts';
import { float32, type HostTensor, type TensorType } from '../src/graph/tensor-type.ts';
import { input, type Value } from '../src/graph/value.ts';
import { type ByteForm, backwardBytesName, forwardBytesName, int8Products, scaleName } from '../src/nn/int8-linear.ts';
import type { LinearModule } from '../src/nn/scope.ts';
import { add, mul, reduceSum } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { compileProgram } from '../src/runtime/onnx-program.ts';
import { roundedColumns, transposed, unsigned } from '../src/weights/int8-weights.ts';

const inputCount = 24;
const modules = [
  { module: 'q', outputCount: 16 },
  { module: 'k', outputCount: 8 },
];
const rowCount = 5;

const drawn = (random: Random, count: number): Float32Array => Float32Array.from({ length: count }, random.normal);
const tensor = (data: Float32Array, ...shape: number[]): HostTensor => ({ ...float32(...shape), data });

/** x·Wᵀ by the rule in words: rows of x and channels of W rounded to 127 steps of their largest magnitude, products summed exactly. */
const slowProduct = (x: Float32Array, matrix: Float32Array, inner: number): number[] => {
  const rounded = (values: Float32Array): { levels: number[]; scale: number } => {
    const scale = Math.max(...values.map(Math.abs)) / 127;
    return { levels: Array.from(values, (value) => Math.round(value / scale)), scale };
  };
  const rows = Array.from({ length: x.length / inner }, (_, row) => rounded(x.subarray(row * inner, (row + 1) * inner)));
  const channels = Array.from({ length: matrix.length / inner }, (_, row) => rounded(matrix.subarray(row * inner, (row + 1) * inner)));
  return rows.flatMap((row) =>
    channels.map(
      (channel) => row.levels.reduce((sum, level, index) => sum + level * (channel.levels[index] as number), 0) * row.scale * channel.scale,
    ),
  );
};

/** A group's weights as the bytes that its products ask for. */
const bytesOf = (matrices: readonly Float32Array[], form: ByteForm): Record<string, HostTensor> => {
  const feeds: Record<string, HostTensor> = {};
  const keep = (name: string, matrix: Float32Array, columnCount: number): void => {
    const { bytes, scales } = roundedColumns(matrix, columnCount);
    const data = form === 'int8' ? bytes : unsigned(bytes);
    feeds[name] = { dataType: form, shape: [matrix.length / columnCount, columnCount], data };
    feeds[scaleName(name)] = tensor(scales, columnCount);
  };
  modules.forEach(({ module, outputCount }, index) => {
    keep(forwardBytesName(module), transposed(matrices[index] as Float32Array, inputCount), outputCount);
  });
  const below = Float32Array.from(matrices.flatMap((matrix) => [...matrix]));
  keep(backwardBytesName(modules.map(({ module }) => module)), below, inputCount);
  return feeds;
};

/** Inputs of a graph, each once. */
const inputsOnce = () => {
  const inputs = new Map<string, Value>();
  return (name: string, type: TensorType): Value => {
    const value = inputs.get(name) ?? input(name, type);
    inputs.set(name, value);
    return value;
  };
};

/** The group's products and the gradient of Σ cotangent·product with respect to x, traced. */
const traced = (form: ByteForm, flowing: readonly number[] = [0, 1]) => {
  const x = input('x', float32(rowCount, inputCount));
  const products = int8Products(form, inputsOnce())(modules, x);
  const loss = flowing
    .map((index) => {
      const product = products[index] as Value;
      const weights = input(`cotangent${index}`, product.type);
      return reduceSum(mul(product, weights), [0, 1]);
    })
    .reduce(add);
  const [dx] = gradient(loss, [x]) as [Value];
  return graphOf({ ...Object.fromEntries(products.map((product, index) => [`product${index}`, product])), dx, loss });
};

const assertClose = (actual: HostTensor | undefined, expected: readonly number[], what: string): void => {
  assert.equal(actual?.data.length, expected.length, what);
  const size = Math.max(...expected.map(Math.abs));
  expected.forEach((value, index) => {
    // Sums of bytes are exact; what is rounded is two scales, a few units in the last place of float32
    assert.ok(
      Math.abs(Number(actual?.data[index]) - value) <= 2e-6 * size,
      `${what}: element ${index} is ${actual?.data[index]}, not ${value}`,
    );
  });
};

describe('frozen products in 8 bits', () => {
  const random = randomFrom(8, 'int8');
  const matrices = modules.map(({ outputCount }) => drawn(random, outputCount * inputCount));
  const x = drawn(random, rowCount * inputCount);
  const cotangents = modules.map(({ outputCount }) => drawn(random, rowCount * outputCount));
  const feeds = {
    x: tensor(x, rowCount, inputCount),
    ...Object.fromEntries(
      modules.map(({ outputCount }, index) => [`cotangent${index}`, tensor(cotangents[index] as Float32Array, rowCount, outputCount)]),
    ),
  };

  for (const form of ['int8', 'uint8'] as const) {
    it(`are what the rule in words gives, forward and back, with ${form} weights`, async () => {
      const weights = bytesOf(matrices, form);
      const graph = traced(form);
      const program = await compileProgram(graph, { threadCount: 1, weights: new Map(Object.entries(weights)) });
      try {
        const outputs = await program.run(feeds);
        matrices.forEach((matrix, index) => {
          assertClose(outputs[`product${index}`], slowProduct(x, matrix, inputCount), `product ${index}`);
        });
        // dx = [g_q, g_k]·[W_q; W_k]: rows of both cotangents share a scale, and so do the columns of both matrices
        const total = modules.reduce((sum, { outputCount }) => sum + outputCount, 0);
        const joined = new Float32Array(rowCount * total);
        for (let row = 0; row < rowCount; row++) {
          joined.set((cotangents[0] as Float32Array).subarray(row * 16, (row + 1) * 16), row * total);
          joined.set((cotangents[1] as Float32Array).subarray(row * 8, (row + 1) * 8), row * total + 16);
        }
        const below = Float32Array.from(matrices.flatMap((matrix) => [...matrix]));
        assertClose(outputs.dx, slowProduct(joined, transposed(below, inputCount), total), 'gradient');
        const reference = interpret(graph, { ...feeds, ...weights }, { float: 'float32' });
        assertClose(outputs.dx, Array.from(reference.dx?.data ?? [], Number), 'gradient by the references');
      } finally {
        await program.release();
      }
    });
  }

  it('of inputs with outliers keep what lies beside these', () => {
    const wide = modules.map((module) => ({ ...module, hasOutliers: true }));
    const spiked = x.map((value, index) => (index % inputCount === 3 ? 500 * value : value));
    const run = (group: readonly LinearModule[]): number => {
      const [product] = int8Products('int8', inputsOnce())(group, input('x', float32(rowCount, inputCount)));
      const graph = graphOf({ product: product as Value });
      const given = { x: tensor(spiked, rowCount, inputCount), ...bytesOf(matrices, 'int8') };
      const rounded = interpret(graph, given, { float: 'float32' }).product?.data ?? [];
      // The same weights, and inputs that are not rounded
      const { bytes, scales } = roundedColumns(transposed(matrices[0] as Float32Array, inputCount), 16);
      let [error, size] = [0, 0];
      for (let row = 0; row < rowCount; row++) {
        for (let column = 0; column < 16; column++) {
          let exact = 0;
          for (let k = 0; k < inputCount; k++) exact += (spiked[row * inputCount + k] as number) * (bytes[k * 16 + column] as number);
          exact *= scales[column] as number;
          error += (Number(rounded[row * 16 + column]) - exact) ** 2;
          size += exact ** 2;
        }
      }
      return Math.sqrt(error / size);
    };
    // A byte has 127 steps and two of them 127 · 254
    assert.ok(run(wide) < run(modules) / 100, `${run(wide)} with two bytes, ${run(modules)} with one`);
  });

  it('take a group in which nothing flows back into one product', () => {
    const weights = bytesOf(matrices, 'int8');
    const both = interpret(
      traced('int8'),
      { ...feeds, cotangent1: tensor(new Float32Array(rowCount * 8), rowCount, 8), ...weights },
      { float: 'float32' },
    );
    const one = interpret(traced('int8', [0]), { ...feeds, ...weights }, { float: 'float32' });
    assert.deepEqual(one.dx, both.dx);
  });

  it('of a row of zeros are zeros, and so is its gradient', () => {
    const zeros = { ...feeds, x: tensor(new Float32Array(rowCount * inputCount), rowCount, inputCount) };
    const nothing = Object.fromEntries(
      modules.map(({ outputCount }, index) => [
        `cotangent${index}`,
        tensor(new Float32Array(rowCount * outputCount), rowCount, outputCount),
      ]),
    );
    const outputs = interpret(traced('int8'), { ...zeros, ...nothing, ...bytesOf(matrices, 'int8') }, { float: 'float32' });
    for (const name of ['product0', 'product1', 'dx'])
      assert.ok(
        outputs[name]?.data.every((value) => Number(value) === 0),
        name,
      );
  });
});
