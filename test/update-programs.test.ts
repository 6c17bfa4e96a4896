import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import { bundlesOf, packBundle, unpackBundles } from '../src/engines/bundles.ts';
import { updateGraph } from '../src/engines/update-programs.ts';
import { elementCount, float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { adamw } from '../src/optim/adamw.ts';
import type { Arrays, Optimiser } from '../src/optim/optimiser.ts';
import { sgd } from '../src/optim/sgd.ts';
import { adamwUpdate, sgdUpdate, type UpdateRule } from '../src/optim/update-rules.ts';
import { interpret } from '../src/runtime/interpreter.ts';

const shapes = new Map([
  ['matrix', [7, 9]],
  ['norm', [9]],
]);
const adamwOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const sgdOptions = { momentum: 0.8, weightDecay: 0.1 };
const rules: readonly (readonly [string, Optimiser, UpdateRule])[] = [
  ['adamw', adamw(adamwOptions), adamwUpdate(adamwOptions)],
  ['sgd', sgd(sgdOptions), sgdUpdate(sgdOptions)],
];

describe('an optimiser as a program', () => {
  for (const [name, optimiser, rule] of rules) {
    it(`${name}: four steps are those of the one on the host, which has golden numbers`, () => {
      const random = randomFrom(5, 'update', name);
      const drawn = (): Arrays =>
        Object.fromEntries([...shapes].map(([key, shape]) => [key, Float32Array.from({ length: elementCount(shape) }, random.normal)]));
      const bundles = bundlesOf(shapes);
      const graph = updateGraph(bundles, rule);
      const vectors = (prefix: string, arrays: Arrays): Record<string, HostTensor> =>
        Object.fromEntries(
          bundles.map((bundle, index) => [`${prefix}:${index}`, { ...float32(bundle.length), data: packBundle(bundle, arrays) }]),
        );
      let parameters = drawn();
      let state = optimiser.init(parameters);
      let own = { parameters, slots: state.slots };
      for (let stepCount = 1; stepCount <= 4; stepCount++) {
        const sums = drawn();
        const factor = 0.25;
        const learningRate = 0.1 / stepCount;
        const gradients = Object.fromEntries(Object.entries(sums).map(([key, data]) => [key, data.map((value) => value * factor)]));
        const decays = (key: string) => key === 'matrix';
        ({ parameters, state } = optimiser.update({ parameters, gradients, state, learningRate, decays }));
        const numbers = { ...rule.numbers({ learningRate, stepCount }), factor };
        const outputs = interpret(
          graph,
          {
            ...vectors('parameters', own.parameters),
            ...vectors('gradients', sums),
            ...Object.assign({}, ...rule.slots.map((slot) => vectors(slot, own.slots[slot] as Arrays))),
            ...Object.fromEntries(
              Object.entries(numbers).map(([key, value]) => [`number:${key}`, { ...float32(), data: Float32Array.of(value) }]),
            ),
          },
          { float: 'float32' },
        );
        const unpacked = (prefix: string): Arrays =>
          unpackBundles(
            bundles,
            bundles.map((_, index) => outputs[`next ${prefix}:${index}`]?.data as Float32Array),
          );
        own = { parameters: unpacked('parameters'), slots: Object.fromEntries(rule.slots.map((slot) => [slot, unpacked(slot)])) };
        const pairs = [
          [own.parameters, parameters] as const,
          ...rule.slots.map((slot) => [own.slots[slot] as Arrays, state.slots[slot] as Arrays] as const),
        ];
        for (const [actual, expected] of pairs) {
          for (const key of shapes.keys()) {
            expected[key]?.forEach((value, index) => {
              const difference = Math.abs(value - (actual[key]?.[index] as number));
              // The program rounds to float32 after every operation, the host once.
              assert.ok(
                difference <= 1e-6 * Math.max(1, Math.abs(value)),
                `step ${stepCount}, ${key}[${index}]: ${actual[key]?.[index]}, ${value}`,
              );
            });
          }
        }
      }
    });
  }
});
