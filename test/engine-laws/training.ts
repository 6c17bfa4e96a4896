import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { randomFrom } from '../../src/base/random.ts';
import type { Engine, OptimiserSpecification, ParameterSelection, ParameterSet } from '../../src/engines/engine.ts';
import { assertClose, assertTensorsClose, takeGradients } from '../golden/compare.ts';
import { tinyLoraOfSeed } from '../golden/golden-files.ts';
import { adamw, assertSame, copyOf, crossEntropy, rowsOf, type Suite, sgd, unequal, vocabularySize } from './suite.ts';

/** Losses, gradients and optimiser steps. */
export const trainingLaws = ({ using, law }: Suite): void => {
  describe('losses and gradients', () => {
    law('a batch of 8 unequal rows and 8 calls of one row give the same loss and gradients', async (engine) => {
      const rows = rowsOf(unequal, 11);
      const together = await engine.forwardBackward(rows, crossEntropy);
      const gradients = await takeGradients(engine, together.tokenCount);
      let sum = 0;
      let tokenCount = 0;
      for (const row of rows) {
        const one = await engine.forwardBackward([row], crossEntropy);
        sum += one.sum;
        tokenCount += one.tokenCount;
      }
      assert.equal(together.tokenCount, tokenCount);
      assert.equal(
        tokenCount,
        rows.flatMap(({ weights }) => weights).reduce((total, weight) => total + weight, 0),
      );
      assertClose([together.sum / sum], [1], 1e-5, 'relative loss');
      assertTensorsClose(await takeGradients(engine, tokenCount), gradients, 1e-5, 'gradient');
    });

    law('the loss is minus the weighted sum of the log-probabilities of score', async (engine) => {
      const rows = rowsOf(unequal, 12).map((row, index) => ({ ...row, weights: row.weights.map((weight) => weight * (1 + index / 4)) }));
      const sums = await engine.forward(rows, crossEntropy);
      const scores = await engine.score(rows);
      rows.forEach(({ weights }, index) => {
        const expected = weights.reduce((total, weight, position) => total - weight * (scores[index]?.logProbabilities[position] ?? 0), 0);
        assertClose([sums[index]?.sum ?? 0], [expected], 1e-4 * Math.abs(expected), `row ${index}`);
        assert.deepEqual(sums[index]?.terms, { 'cross-entropy': sums[index]?.sum });
      });
    });

    law('tokens after the last weighted one change neither loss nor gradients', async (engine) => {
      const weights = Array.from({ length: 30 }, (_, index) => (index > 8 && index < 20 ? 1 : 0));
      const tokens = rowsOf([30], 13)[0]?.tokens ?? [];
      const changed = tokens.map((token, index) => (index < 20 ? token : (token + 17) % vocabularySize));
      const first = await engine.forwardBackward([{ tokens, weights }], crossEntropy);
      const gradients = await takeGradients(engine, 11);
      const second = await engine.forwardBackward([{ tokens: changed, weights }], crossEntropy);
      assertClose([second.sum], [first.sum], 1e-5, 'loss');
      assertTensorsClose(await takeGradients(engine, 11), gradients, 1e-6, 'gradient');
    });

    law('the gradient is the slope of the loss along a random direction', async (engine, start) => {
      const rows = rowsOf([20, 31], 14);
      const { tokenCount } = await engine.forwardBackward(rows, crossEntropy);
      const gradients = await takeGradients(engine, tokenCount);
      const random = randomFrom(4, 'direction');
      const direction = Object.fromEntries(Object.entries(start).map(([key, { data }]) => [key, data.map(() => random.normal())]));
      const slope = Object.entries(gradients).reduce(
        (sum, [key, { data }]) => sum + data.reduce((dot, value, index) => dot + value * (direction[key]?.[index] ?? 0), 0),
        0,
      );
      const lossAt = async (step: number): Promise<number> => {
        const moved = Object.entries(start).map(([key, { shape, data }]) => {
          return [key, { shape, data: data.map((value, index) => value + step * (direction[key]?.[index] ?? 0)) }] as const;
        });
        await engine.load(Object.fromEntries(moved));
        const sums = await engine.forward(rows, crossEntropy);
        return sums.reduce((sum, row) => sum + row.sum, 0) / tokenCount;
      };
      // Central difference; float32 losses near 5 have errors of about 1e-6, and the third derivative costs about as much.
      const step = 1e-3;
      const measured = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
      assertClose([measured / slope], [1], 1e-2, `slope ${slope} by the gradient, ${measured} measured`);
    });

    law('forward accumulates nothing', async (engine) => {
      const [first, second] = [rowsOf([20], 15), rowsOf([25], 16)];
      const { tokenCount } = await engine.forwardBackward(first, crossEntropy);
      const alone = await takeGradients(engine, tokenCount);
      await engine.forwardBackward(first, crossEntropy);
      await engine.forward(second, crossEntropy);
      await engine.score(second);
      assertSame(await takeGradients(engine, tokenCount), alone, 'gradients');
    });
  });

  describe('optimiser steps', () => {
    law('empty the accumulation', async (engine) => {
      const rows = rowsOf([20, 9], 21);
      const { tokenCount } = await engine.forwardBackward(rows, crossEntropy);
      const before = await engine.optimStep({ optimiser: sgd, learningRate: 0, tokenCount });
      await engine.forwardBackward(rows, crossEntropy);
      const after = await engine.optimStep({ optimiser: sgd, learningRate: 0, tokenCount });
      assert.equal(after.gradientNorm, before.gradientNorm);
    });

    law('report the norm before clipping and move by rate × maximumNorm when it is larger', async (engine, start) => {
      const rows = rowsOf([20, 9], 22);
      const { tokenCount } = await engine.forwardBackward(rows, crossEntropy);
      const gradients = await takeGradients(engine, tokenCount);
      const norm = Math.sqrt(
        Object.values(gradients).reduce((sum, { data }) => sum + data.reduce((part, value) => part + value * value, 0), 0),
      );
      for (const [maximumNorm, factor] of [
        [norm / 4, 1 / 4],
        [norm * 4, 1],
      ] as const) {
        await engine.load(start);
        await engine.forwardBackward(rows, crossEntropy);
        const rate = 2 ** 20; // large: what is left of p in p − rate·g does not matter
        const report = await engine.optimStep({ optimiser: sgd, learningRate: rate, tokenCount, maximumNorm });
        assertClose([report.gradientNorm / norm], [1], 1e-5, 'reported norm, relative');
        const expected = Object.fromEntries(
          Object.entries(gradients).map(([key, { shape, data }]) => [key, { shape, data: data.map((value) => -rate * factor * value) }]),
        );
        assertTensorsClose(await engine.parameters(), expected, 1e-4, `step with maximumNorm ${maximumNorm}`);
      }
    });

    law('want gradients and a token count', async (engine) => {
      await assert.rejects(engine.optimStep({ optimiser: sgd, learningRate: 1, tokenCount: 1 }), /forwardBackward/);
      await engine.forwardBackward(rowsOf([9], 23), crossEntropy);
      await assert.rejects(engine.optimStep({ optimiser: sgd, learningRate: 1, tokenCount: 0 }), /token count/i);
    });

    for (const optimiser of [adamw, { name: 'sgd', momentum: 0.9, weightDecay: 0.01 }] satisfies OptimiserSpecification[]) {
      law(`${optimiser.name}: a state restored into another engine continues to the same bytes`, async (engine) => {
        const batches = [0, 1, 2, 3].map((index) => rowsOf([18 + index, 7, 40], 30 + index));
        const step = async (target: Engine, index: number) => {
          const { tokenCount } = await target.forwardBackward(batches[index] ?? [], crossEntropy);
          await target.optimStep({ optimiser, learningRate: 0.01, tokenCount, maximumNorm: 1 });
        };
        await step(engine, 0);
        await step(engine, 1);
        // A deep copy, as a checkpoint on disk is: nothing but data may matter.
        const saved = structuredClone(await engine.state());
        assert.equal(saved.stepCount, 2);
        assert.ok(Object.keys(saved.optimiser).length > 0);
        await step(engine, 2);
        await step(engine, 3);
        const expected = copyOf(await engine.parameters());
        await using({}, async (other) => {
          await step(other, 3); // leaves moments behind that restore must replace
          await other.forwardBackward(batches[0] ?? [], crossEntropy); // and an accumulation that it must drop
          await other.restore(saved);
          const restored = await other.state();
          assertSame(restored.parameters, saved.parameters, 'restored parameters');
          assert.deepEqual(Object.keys(restored.optimiser), Object.keys(saved.optimiser));
          for (const [slot, set] of Object.entries(saved.optimiser)) assertSame(restored.optimiser[slot] ?? {}, set, `restored ${slot}`);
          await step(other, 2);
          await step(other, 3);
          assertSame(await other.parameters(), expected, 'after going on');
        });
      });
    }

    law('load forgets moments and accumulation', async (engine, start) => {
      const rows = rowsOf([20, 9], 24);
      const run = async () => {
        const { tokenCount } = await engine.forwardBackward(rows, crossEntropy);
        await engine.optimStep({ optimiser: adamw, learningRate: 0.01, tokenCount });
        return copyOf(await engine.parameters());
      };
      const first = await run();
      await run();
      await engine.forwardBackward(rows, crossEntropy);
      await engine.load(start);
      assertSame(await run(), first, 'the first step again');
      assert.equal((await engine.state()).stepCount, 1);
    });

    law('reset makes it what a new engine of that seed is', async (engine) => {
      const rows = rowsOf([20, 9], 26);
      const { tokenCount } = await engine.forwardBackward(rows, crossEntropy);
      await engine.optimStep({ optimiser: adamw, learningRate: 0.01, tokenCount });
      await engine.forwardBackward(rows, crossEntropy);
      await engine.reset(17);
      await using({ parameters: tinyLoraOfSeed(17) }, async (fresh) => {
        assertSame(await engine.parameters(), await fresh.parameters(), 'parameters');
        const state = await engine.state();
        assert.equal(state.stepCount, 0);
        assert.deepEqual(state.optimiser, {});
        await assert.rejects(engine.optimStep({ optimiser: adamw, learningRate: 0.01, tokenCount }), /forwardBackward/);
      });
    });

    law('calls that do not wait for one another are answered in order', async (engine, start) => {
      const rows = rowsOf([20, 9], 25);
      const tokenCount = rows.flatMap(({ weights }) => weights).reduce((sum, weight) => sum + weight, 0);
      const step = { optimiser: adamw, learningRate: 0.01, tokenCount } as const;
      await engine.forwardBackward(rows, crossEntropy);
      await engine.optimStep(step);
      const expected = copyOf(await engine.parameters());
      await engine.load(start);
      const [, , parameters] = await Promise.all([engine.forwardBackward(rows, crossEntropy), engine.optimStep(step), engine.parameters()]);
      assertSame(parameters, expected, 'parameters after the step');
    });
  });

  describe('dropout', () => {
    const dropping = (seed: number): ParameterSelection => ({ ...tinyLoraOfSeed(seed), dropout: 0.4 });
    const rows = rowsOf([40, 23], 27);
    const lossWith = async (engine: Engine, start: ParameterSet): Promise<number> => {
      await engine.load(start);
      return (await engine.forwardBackward(rows, crossEntropy)).sum;
    };

    law('acts while training and nowhere else', async (engine, start) => {
      const plain = await engine.forward(rows, crossEntropy);
      await using({ parameters: dropping(1) }, async (other) => {
        assert.notEqual(await lossWith(other, start), await lossWith(engine, start));
        const sums = await other.forward(rows, crossEntropy);
        assertClose(
          sums.map(({ sum }) => sum),
          plain.map(({ sum }) => sum),
          1e-3,
          'losses without gradients',
        );
        const [score] = await other.score(rows);
        assertClose(score?.logProbabilities ?? [], (await engine.score(rows))[0]?.logProbabilities ?? [], 1e-5, 'scores');
      });
    });

    law('is drawn from the seed and the step', async (_, start) => {
      await using({ parameters: dropping(1) }, async (first) => {
        const loss = await lossWith(first, start);
        assert.equal(await lossWith(first, start), loss, 'the same step again');
        await using({ parameters: dropping(1) }, async (same) => assert.equal(await lossWith(same, start), loss, 'the same seed'));
        await using({ parameters: dropping(2) }, async (other) => assert.notEqual(await lossWith(other, start), loss, 'another seed'));
        await first.optimStep({ optimiser: sgd, learningRate: 0, tokenCount: 1 });
        assert.notEqual((await first.forwardBackward(rows, crossEntropy)).sum, loss, 'the next step');
      });
    });
  });
};
