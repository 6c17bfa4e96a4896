import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { candidateCountOf, type SearchConfig, searchSchema } from '../src/config/search-config.ts';
import { trainingSchema } from '../src/config/training-config.ts';
import { candidatesOf, settingsName, settingsText, withSettings } from '../src/methods/candidates.ts';

const plain = trainingSchema.parse({ learningRate: 0.001, epochs: 3 });
const distilled = trainingSchema.parse({ loss: { name: 'distillation', alpha: 0.5, temperature: 2 } });
const searchOf = (given: object): SearchConfig => searchSchema.parse(given);

describe('the candidates of a search', () => {
  it('are all combinations of its lists, with the training’s own where there is none', () => {
    assert.deepEqual(candidatesOf(searchOf({ learningRate: [0.1, 0.2] }), plain, 0), [
      { learningRate: 0.1, epochs: 3 },
      { learningRate: 0.2, epochs: 3 },
    ]);
    const all = candidatesOf(searchOf({ epochs: [1, 2], alpha: [0, 1], temperature: [1, 4, 8] }), distilled, 0);
    assert.equal(all.length, 2 * 2 * 3);
    assert.equal(new Set(all.map(settingsName)).size, all.length);
    assert.deepEqual(all[0], { learningRate: 5e-4, epochs: 1, alpha: 0, temperature: 1 });
  });

  it('are as many as may be tried, drawn by the seed', () => {
    const search = searchOf({ learningRate: [1, 2, 3, 4, 5, 6, 7, 8], candidates: 3 });
    const drawn = candidatesOf(search, plain, 0);
    assert.equal(drawn.length, 3);
    assert.deepEqual(candidatesOf(search, plain, 0), drawn);
    const others = [1, 2, 3, 4].map((seed) => candidatesOf(search, plain, seed));
    assert.ok(others.some((other) => JSON.stringify(other) !== JSON.stringify(drawn)));
    // Drawn of the grid and in its order.
    for (const list of [drawn, ...others]) {
      const rates = list.map(({ learningRate }) => learningRate);
      assert.deepEqual(rates, [...new Set(rates)].sort());
    }
  });

  it('do not vary what a loss without a teacher does not have', () => {
    const search = searchOf({ learningRate: [0.1, 0.2], alpha: [0, 1], temperature: [1, 2] });
    assert.equal(candidatesOf(search, plain, 0).length, 2);
    assert.deepEqual([candidateCountOf(search, 'cross-entropy'), candidateCountOf(search, 'distillation')], [2, 8]);
    assert.equal(candidateCountOf({ ...search, candidates: 5 }, 'distillation'), 5);
  });

  it('change in a training what they name', () => {
    assert.deepEqual(withSettings(distilled, { learningRate: 1, epochs: 9, temperature: 7 }), {
      ...distilled,
      learningRate: 1,
      epochs: 9,
      loss: { name: 'distillation', alpha: 0.5, temperature: 7 },
    });
    assert.deepEqual(withSettings(plain, { learningRate: 1, epochs: 9, alpha: 0.1 }), { ...plain, learningRate: 1, epochs: 9 });
    assert.equal(settingsText({ learningRate: 0.002, epochs: 1, alpha: 0.6, temperature: 4 }), 'learning rate 0.002, 1 epoch, α 0.6, T 4');
  });
});
