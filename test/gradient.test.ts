import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { InternalError } from '../src/base/errors.ts';
import { graphOf, printGraph } from '../src/graph/graph.ts';
import { float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { constant, input, scalar, type Value } from '../src/graph/value.ts';
import * as ops from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';

const vector = (...values: number[]): HostTensor => ({ dataType: 'float32', shape: [values.length], data: Float32Array.from(values) });
const evaluate = (value: Value, feeds: Record<string, HostTensor>): number[] =>
  Array.from(interpret(graphOf({ value }), feeds, { float: 'float64' }).value?.data ?? assert.fail(), Number);
const sum = (x: Value): Value => ops.reduceSum(x, [...x.type.shape.keys()]);

describe('gradient', () => {
  const x = input('x', float32(3));
  const y = input('y', float32(3));
  const feeds = { x: vector(1, 2, 3), y: vector(5, -1, 0.5) };

  it('adds up what flows back through several uses of one value', () => {
    // L = Σ x·x·x + x·y: dL/dx = 3x² + y
    const loss = sum(ops.add(ops.mul(ops.mul(x, x), x), ops.mul(x, y)));
    const [slope] = gradient(loss, [x]);
    assert.deepEqual(evaluate(slope as Value, feeds), [8, 11, 27.5]);
  });

  it('is zero, of the right shape, for what the loss does not depend on', () => {
    const [, slope] = gradient(sum(x), [x, y]);
    assert.deepEqual(slope?.type, float32(3));
    assert.deepEqual(evaluate(slope as Value, feeds), [0, 0, 0]);
  });

  it('takes inner values as parameters', () => {
    // L = Σ h², h = x·y: dL/dh = 2h
    const h = ops.mul(x, y);
    const [slope] = gradient(sum(ops.square(h)), [h]);
    assert.deepEqual(evaluate(slope as Value, feeds), [10, -4, 3]);
  });

  it('starts from a seed where one is given: the chain rule across programs', () => {
    // y = x²: seed·2x
    const [slope] = gradient(ops.square(x), [x], constant(vector(1, 10, 100)));
    assert.deepEqual(evaluate(slope as Value, feeds), [2, 40, 600]);
  });

  it('refuses a loss that is no scalar', () => {
    assert.throws(
      () => gradient(x, [x]),
      (error) => error instanceof InternalError && /float32\[3\]/.test(error.message),
    );
  });

  it('lets nothing through comparisons and integers', () => {
    const gate = ops.cast(ops.less(x, y), 'float32');
    const index = ops.cast(ops.cast(x, 'int32'), 'float32');
    const [slope] = gradient(sum(ops.add(ops.add(gate, index), x)), [x]);
    assert.deepEqual(evaluate(slope as Value, feeds), [1, 1, 1]);
  });

  it('shares equal maxima, so that a gradient of 1 stays 1 in all', () => {
    const [slope] = gradient(ops.reduceMax(x, [0]), [x]);
    assert.deepEqual(evaluate(slope as Value, { x: vector(2, 1, 2) }), [0.5, 0, 0.5]);
  });

  it('sends the gradient of a maximum or minimum of equals one way, not both', () => {
    for (const choose of [ops.maximum, ops.minimum]) {
      const slopes = gradient(sum(choose(x, y)), [x, y]).map((slope) => evaluate(slope, { x: vector(1, 2, 3), y: vector(1, 5, 0) }));
      const total = slopes.reduce((a, b) => a.map((value, index) => value + (b[index] as number)));
      assert.deepEqual(total, [1, 1, 1]);
    }
  });

  it('asks no rule for work that no parameter needs', () => {
    // dL/dx = g·Wᵀ is one product; dL/dW, which nobody wants, would be another.
    const [row, weight] = [input('row', float32(1, 3)), input('weight', float32(3, 3))];
    const [slope] = gradient(sum(ops.gemm(row, weight)), [row]);
    const products = graphOf({ slope: slope as Value }).nodes.filter((node) => node.op === ops.gemmOp);
    assert.equal(products.length, 1, printGraph(graphOf({ slope: slope as Value })));
  });

  it('goes through graphs of thousands of nodes', () => {
    let deep: Value = x;
    for (let index = 0; index < 20_000; index++) deep = ops.add(deep, scalar(1));
    const [slope] = gradient(sum(deep), [x]);
    assert.deepEqual(evaluate(slope as Value, feeds), [1, 1, 1]);
  });

  it('can be taken of itself', () => {
    // L = Σ x⁴ (as squares): L' = 4x³, (Σ L')' = 12x²
    const [first] = gradient(sum(ops.square(ops.square(x))), [x]);
    const [second] = gradient(sum(first as Value), [x]);
    assert.deepEqual(evaluate(second as Value, feeds), [12, 48, 108]);
  });
});
