import assert from 'node:assert/strict';
import type { Engine, LossSpecification, ParameterSet, TokenRow } from '../../src/engines/engine.ts';
import { tensorOf } from './golden-files.ts';

type Numbers = ArrayLike<number>;

/** max |a − b|; NaN counts as infinitely far. */
export const largestDifference = (actual: Numbers, expected: Numbers): number => {
  assert.equal(actual.length, expected.length, 'number of elements');
  let largest = 0;
  for (let index = 0; index < expected.length; index++) {
    const difference = Math.abs((actual[index] as number) - (expected[index] as number));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
};

/** ‖a − b‖ / ‖b‖. */
export const relativeDistance = (actual: Numbers, expected: Numbers): number => {
  assert.equal(actual.length, expected.length, 'number of elements');
  let difference = 0;
  let size = 0;
  for (let index = 0; index < expected.length; index++) {
    difference += ((actual[index] as number) - (expected[index] as number)) ** 2;
    size += (expected[index] as number) ** 2;
  }
  return Math.sqrt(difference / size);
};

export const assertClose = (actual: Numbers, expected: Numbers, tolerance: number, what: string): void => {
  const difference = largestDifference(actual, expected);
  assert.ok(difference <= tolerance, `${what}: largest difference ${difference}, allowed ${tolerance}`);
};

/** Each tensor of `expected` within `tolerance` by ‖a − b‖ / ‖b‖; the names must be the same. */
export const assertTensorsClose = (actual: ParameterSet, expected: ParameterSet, tolerance: number, what: string): void => {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), `${what}: names`);
  for (const [name, { shape, data }] of Object.entries(expected)) {
    assert.deepEqual(actual[name]?.shape, shape, `${what}: shape of ${name}`);
    const distance = relativeDistance(tensorOf(actual, name), data);
    assert.ok(distance <= tolerance, `${what}: ${name} has ‖a−b‖/‖b‖ ${distance}, allowed ${tolerance}`);
  }
};

/** A power of two so large that in p − rate·g the parameter p does not cost the gradient g digits. */
const rate = 2 ** 24;

/** The accumulated gradients divided by `tokenCount`, from one SGD step of a known size; then puts the parameters back. */
export const takeGradients = async (engine: Engine, tokenCount: number): Promise<ParameterSet> => {
  const before = await engine.parameters();
  await engine.optimStep({ optimiser: { name: 'sgd', momentum: 0, weightDecay: 0 }, learningRate: rate, tokenCount });
  const after = await engine.parameters();
  await engine.load(before);
  return Object.fromEntries(
    Object.entries(before).map(([name, { shape, data }]) => {
      const stepped = tensorOf(after, name);
      return [name, { shape, data: data.map((value, index) => (value - (stepped[index] as number)) / rate) }];
    }),
  );
};

/** The gradients of (sum of the rows' losses) / (weighted tokens). */
export const gradientsOf = async (engine: Engine, rows: readonly TokenRow[], loss: LossSpecification): Promise<ParameterSet> => {
  const { tokenCount } = await engine.forwardBackward(rows, loss);
  return takeGradients(engine, tokenCount);
};
