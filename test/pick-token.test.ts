import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import { pickToken } from '../src/engines/pick-token.ts';

/** Probabilities of six tokens, as logarithms. Two are equal. */
const probabilities = [0.05, 0.4, 0.1, 0.1, 0.3, 0.05];
const logProbabilities = Float32Array.from(probabilities, Math.log);

const drawCounts = (options: { readonly temperature: number; readonly topP: number }, count = 20_000): number[] => {
  const random = randomFrom(7, 'draws');
  const counts = probabilities.map(() => 0);
  for (let draw = 0; draw < count; draw++) {
    const { token, logProbability } = pickToken(logProbabilities, options, random);
    counts[token] = (counts[token] ?? 0) + 1;
    assert.ok(Math.abs(logProbability - Math.log(probabilities[token] ?? 0)) < 1e-6, 'of temperature 1, before any truncation');
  }
  return counts;
};

/** Pearson's X² of counts under weights that need not sum to 1; tokens of weight 0 must not have been drawn. */
const chiSquare = (counts: readonly number[], weights: readonly number[]): number => {
  const [count, total] = [counts, weights].map((values) => values.reduce((sum, value) => sum + value, 0)) as [number, number];
  return counts.reduce((sum, found, token) => {
    const expected = (count * (weights[token] ?? 0)) / total;
    if (expected === 0) {
      assert.equal(found, 0, `token ${token} was drawn`);
      return sum;
    }
    return sum + (found - expected) ** 2 / expected;
  }, 0);
};

/** The 0.999 quantiles of χ² with so many degrees of freedom (any table of it). */
const quantile: Readonly<Record<number, number>> = { 1: 10.83, 2: 13.82, 5: 20.52 };

describe('drawing a token', () => {
  it('follows the probabilities at temperature 1', () => {
    assert.ok(chiSquare(drawCounts({ temperature: 1, topP: 1 }), probabilities) < (quantile[5] ?? 0));
  });

  for (const temperature of [0.5, 2]) {
    it(`follows p^(1/T), normalised, at temperature ${temperature}`, () => {
      const weights = probabilities.map((probability) => probability ** (1 / temperature));
      assert.ok(chiSquare(drawCounts({ temperature, topP: 1 }), weights) < (quantile[5] ?? 0));
      // The statistic tells temperatures apart.
      assert.ok(chiSquare(drawCounts({ temperature, topP: 1 }), probabilities) > 100);
    });
  }

  it('keeps the likeliest tokens up to the first that reaches topP, and their proportions', () => {
    // 0.4 + 0.3 = 0.7 reaches 0.65 and, rounding aside, 0.69; a third token is needed for 0.75.
    assert.ok(chiSquare(drawCounts({ temperature: 1, topP: 0.65 }), [0, 0.4, 0, 0, 0.3, 0]) < (quantile[1] ?? 0));
    assert.ok(chiSquare(drawCounts({ temperature: 1, topP: 0.75 }), [0, 0.4, 0.1, 0, 0.3, 0]) < (quantile[2] ?? 0), 'of equals the first');
    assert.deepEqual(drawCounts({ temperature: 1, topP: 0.01 }, 100), [0, 100, 0, 0, 0, 0]);
  });

  it('cuts at topP after the temperature, as transformers does', () => {
    // At T = 2 the weights are √p: .224 .632 .316 .316 .548 .224, their sum 2.260; the first two hold 0.522 of it, the first three 0.662.
    const roots = probabilities.map(Math.sqrt);
    assert.ok(
      chiSquare(drawCounts({ temperature: 2, topP: 0.6 }), [0, roots[1] ?? 0, roots[2] ?? 0, 0, roots[4] ?? 0, 0]) < (quantile[2] ?? 0),
    );
  });

  it('takes the likeliest at temperature 0, the first of equals, and draws no random number for it', () => {
    const random = randomFrom(1, 'unused');
    const before = random.state();
    assert.equal(pickToken(Float32Array.from([-3, -1, -1, -2]), { temperature: 0, topP: 1 }, random).token, 1);
    assert.deepEqual(random.state(), before);
  });

  it('finds a nucleus among tokens of very small probability', () => {
    const flat = new Float32Array(50_000).fill(-Math.log(50_000));
    const random = randomFrom(3, 'flat');
    const tokens = Array.from({ length: 200 }, () => pickToken(flat, { temperature: 1, topP: 0.5 }, random).token);
    // Equals in their order: the first half of them.
    assert.ok(
      tokens.every((token) => token < 25_010),
      String(Math.max(...tokens)),
    );
    assert.ok(tokens.some((token) => token > 20_000));
  });
});
