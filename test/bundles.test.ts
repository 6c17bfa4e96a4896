import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { randomFrom } from '../src/base/random.ts';
import { bundleName, bundlesOf, inBundles, packBundle, unpackBundles } from '../src/engines/bundles.ts';
import { gradientName } from '../src/engines/step-graphs.ts';
import { graphOf } from '../src/graph/graph.ts';
import { elementCount, float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { add, gemm, mul, reduceSum } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';

const random = randomFrom(3, 'bundles');
const shapes = new Map([
  ['first', [4, 5]],
  ['scale', [5]],
  ['second', [5, 3]],
]);
const arrays = Object.fromEntries(
  [...shapes].map(([name, shape]) => [name, Float32Array.from({ length: elementCount(shape) }, random.normal)]),
);
const host = (data: Float32Array, ...shape: number[]): HostTensor => ({ ...float32(...shape), data });

describe('bundles', () => {
  const bundles = bundlesOf(shapes);

  it('hold parameters that decay and those that do not apart, in whole rows', () => {
    assert.deepEqual(
      bundles.map(({ members, decays, length }) => ({ names: members.map(({ name }) => name), decays, length })),
      [
        { names: ['first', 'second'], decays: true, length: 1024 },
        { names: ['scale'], decays: false, length: 1024 },
      ],
    );
  });

  it('begin anew where a buffer of 128 MiB is full', () => {
    const large = bundlesOf(
      new Map([
        ['a', [2 ** 20, 20]],
        ['b', [2 ** 20, 12]],
        ['c', [1, 1]],
        ['d', [2 ** 20, 40]],
      ]),
    );
    assert.deepEqual(
      large.map(({ members }) => members.map(({ name }) => name)),
      [['a', 'b'], ['c'], ['d']],
    );
  });

  it('give back what they were made of', () => {
    const vectors = bundles.map((bundle) => packBundle(bundle, arrays));
    assert.deepEqual(unpackBundles(bundles, vectors), arrays);
  });

  it('change nothing of what a program computes, and gather its gradients', () => {
    const first = input('first', float32(4, 5));
    const scale = input('scale', float32(5));
    const second = input('second', float32(5, 3));
    const x = input('x', float32(2, 4));
    const loss = reduceSum(gemm(mul(add(gemm(x, first), scale), scale), second), [0, 1]);
    const slopes = gradient(loss, [first, scale, second]);
    const names = [...shapes.keys()];
    const graph = graphOf({ loss, ...Object.fromEntries(slopes.map((slope, index) => [gradientName(names[index] as string), slope])) });
    const feeds = { x: host(Float32Array.from({ length: 8 }, random.normal), 2, 4) };
    const parameters = Object.fromEntries([...shapes].map(([name, shape]) => [name, host(arrays[name] as Float32Array, ...shape)]));
    const expected = interpret(graph, { ...feeds, ...parameters }, { float: 'float32' });
    const vectors = Object.fromEntries(
      bundles.map((bundle, index) => [bundleName(index), host(packBundle(bundle, arrays), bundle.length)]),
    );
    const actual = interpret(inBundles(graph, bundles), { ...feeds, ...vectors }, { float: 'float32' });
    assert.deepEqual(Object.keys(actual), ['loss', ...bundles.map((_, index) => gradientName(bundleName(index)))]);
    assert.deepEqual(actual.loss, expected.loss);
    const gradients = unpackBundles(
      bundles,
      bundles.map((_, index) => actual[gradientName(bundleName(index))]?.data as Float32Array),
    );
    for (const name of names) assert.deepEqual(gradients[name], expected[gradientName(name)]?.data, name);
  });
});
