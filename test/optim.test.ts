import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { adamw } from '../src/optim/adamw.ts';
import { clipFactor, globalNorm } from '../src/optim/clip.ts';
import type { Arrays, Optimiser } from '../src/optim/optimiser.ts';
import { learningRateAt } from '../src/optim/schedule.ts';
import { sgd } from '../src/optim/sgd.ts';
import { assertClose } from './golden/compare.ts';

// That AdamW and SGD equal torch.optim over ten steps of a model is in test/training-golden.test.ts. Here: what can be computed by hand.

const always = () => true;
const arrays = (w: readonly number[], norm: readonly number[]): Arrays => ({ w: Float32Array.from(w), norm: Float32Array.from(norm) });

/** Two steps with the same gradients. */
const twoSteps = (rule: Optimiser, decays: (name: string) => boolean, learningRate: number) => {
  const gradients = arrays([0.5, -2], [4]);
  const start = arrays([1, 2], [3]);
  const first = rule.update({ parameters: start, gradients, state: rule.init(start), learningRate, decays });
  const second = rule.update({ parameters: first.parameters, gradients, state: first.state, learningRate, decays });
  return { start, gradients, first, second };
};

describe('AdamW', () => {
  const rule = adamw({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 });

  it('moves by the learning rate against the sign of a constant gradient, after shrinking by rate × decay', () => {
    // With constant g both corrected moments are g and g², so each step is −η·sign(g) but for ε.
    const { first, second } = twoSteps(rule, always, 0.01);
    assertClose(first.parameters.w ?? [], [0.999 - 0.01, 2 * 0.999 + 0.01], 1e-6, 'first step');
    assertClose(second.parameters.w ?? [], [(0.999 - 0.01) * 0.999 - 0.01, (2 * 0.999 + 0.01) * 0.999 + 0.01], 1e-6, 'second step');
    assert.equal(second.state.stepCount, 2);
  });

  it('leaves out what must not decay', () => {
    const { first } = twoSteps(rule, (name) => name !== 'norm', 0.01);
    assertClose(first.parameters.norm ?? [], [3 - 0.01], 1e-6, 'norm');
  });

  it('stands still without gradient and decay', () => {
    const still = adamw({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 });
    const start = arrays([1, 2], [3]);
    const { parameters } = still.update({
      parameters: start,
      gradients: arrays([0, 0], [0]),
      state: still.init(start),
      learningRate: 1,
      decays: always,
    });
    assert.deepEqual(parameters, start);
  });
});

describe('SGD', () => {
  it('adds the decay to the gradient and the momentum to the step', () => {
    const { first, second } = twoSteps(sgd({ momentum: 0.5, weightDecay: 0.1 }), always, 0.1);
    // b₁ = 0.5 + 0.1·1 = 0.6; p₁ = 1 − 0.06 = 0.94; b₂ = 0.3 + 0.5 + 0.094 = 0.894; p₂ = 0.94 − 0.0894 = 0.8506
    assertClose([first.parameters.w?.[0] ?? 0, second.parameters.w?.[0] ?? 0], [0.94, 0.8506], 1e-6, 'w');
  });

  it('leaves out what must not decay', () => {
    const { first } = twoSteps(sgd({ momentum: 0.5, weightDecay: 0.1 }), (name) => name !== 'norm', 0.1);
    assertClose(first.parameters.norm ?? [], [3 - 0.4], 1e-6, 'norm');
  });
});

describe('both', () => {
  for (const [name, rule] of Object.entries({
    adamw: adamw({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 }),
    sgd: sgd({ momentum: 0.9, weightDecay: 0.1 }),
  })) {
    it(`${name} changes nothing that it was given`, () => {
      const { start, gradients, first } = twoSteps(rule, always, 0.01);
      assert.deepEqual(start, arrays([1, 2], [3]));
      assert.deepEqual(gradients, arrays([0.5, -2], [4]));
      assert.equal(first.state.stepCount, 1);
    });
  }
});

describe('clipping', () => {
  it('is by the norm of all arrays together', () => {
    assert.equal(globalNorm(arrays([3, 0], [4])), 5);
    assertClose([clipFactor(5, 1)], [0.2], 1e-6, 'larger');
    assert.equal(clipFactor(0.5, 1), 1);
    assert.equal(clipFactor(0, 1), 1);
    assert.equal(clipFactor(5, undefined), 1);
  });
});

describe('learning rate', () => {
  const rates = (name: 'constant' | 'linear' | 'cosine', stepCount: number, warmupStepCount: number) =>
    Array.from({ length: stepCount }, (_, step) => learningRateAt(step, { name, learningRate: 2, stepCount, warmupStepCount }));

  it('rises over the warm-up, whose first step is not lost', () => {
    assertClose(rates('constant', 6, 4), [0.5, 1, 1.5, 2, 2, 2], 1e-12, 'constant');
  });

  it('falls linearly, or as half a cosine, from the peak', () => {
    assertClose(rates('linear', 6, 2), [1, 2, 2, 1.5, 1, 0.5], 1e-12, 'linear');
    const half = Math.SQRT1_2;
    assertClose(rates('cosine', 6, 2), [1, 2, 2, 1 + half, 1, 1 - half], 1e-12, 'cosine');
  });

  it('takes no warm-up, and one that is as long as the run', () => {
    assertClose(rates('linear', 4, 0), [2, 1.5, 1, 0.5], 1e-12, 'none');
    assertClose(rates('linear', 3, 3), [2 / 3, 4 / 3, 2], 1e-12, 'all');
  });
});
