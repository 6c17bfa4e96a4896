import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { assertClose } from '../golden/compare.ts';
import { greedy, rowsOf, type Suite, unequal, vocabularySize } from './suite.ts';

/** Scores and samples. */
export const inferenceLaws = ({ using, law }: Suite): void => {
  describe('scores', () => {
    law('log-probabilities follow from the logits, the first is 0', async (engine) => {
      const tokens = rowsOf([33], 41)[0]?.tokens ?? [];
      const [score] = await engine.score([{ tokens, logitPositions: tokens.map((_, position) => position) }]);
      assert.ok(score?.logits);
      const expected = tokens.map((token, position) => {
        if (position === 0) return 0;
        const logits = score.logits?.subarray((position - 1) * vocabularySize, position * vocabularySize) ?? new Float32Array();
        const largest = Math.max(...logits);
        return (logits[token] ?? 0) - largest - Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0));
      });
      assertClose(score.logProbabilities, expected, 1e-5, 'log-probabilities');
    });

    law('logits come in the order of the positions asked for', async (engine) => {
      const tokens = rowsOf([33], 42)[0]?.tokens ?? [];
      const [all, some] = await engine.score([
        { tokens, logitPositions: tokens.map((_, position) => position) },
        { tokens, logitPositions: [32, 0, 7, 7] },
      ]);
      const expected = [32, 0, 7, 7].flatMap((position) => [
        ...(all?.logits?.subarray(position * vocabularySize, (position + 1) * vocabularySize) ?? []),
      ]);
      assert.ok(some?.logits);
      assert.equal(some.logits.length, 4 * vocabularySize);
      assertClose(some.logits, expected, 1e-5, 'logits');
    });

    law('a sequence of one token has log-probability 0', async (engine) => {
      const [score] = await engine.score([{ tokens: [5] }]);
      assert.deepEqual(score?.logProbabilities, new Float32Array(1));
    });

    law('are the same alone and in company', async (engine) => {
      const rows = rowsOf(unequal, 43);
      const together = await engine.score(rows);
      for (const [index, row] of rows.entries()) {
        const [alone] = await engine.score([row]);
        assertClose(alone?.logProbabilities ?? [], together[index]?.logProbabilities ?? [], 1e-5, `row ${index}`);
      }
    });
  });

  describe('samples', () => {
    const prompts = rowsOf([7, 30, 1, 45, 12, 64], 51).map(({ tokens }, index) => ({ tokens, seed: 100 + index }));

    law('greedy ones are the argmax of score, with its log-probabilities', async (engine) => {
      const samples = await engine.sample(prompts, greedy);
      for (const [index, { tokens, logProbabilities, finishReason }] of samples.entries()) {
        const prompt = prompts[index]?.tokens ?? [];
        assert.equal(tokens.length, greedy.maximumTokens);
        assert.equal(finishReason, 'length');
        const positions = tokens.map((_, step) => prompt.length - 1 + step);
        const [score] = await engine.score([{ tokens: [...prompt, ...tokens], logitPositions: positions }]);
        assert.ok(score?.logits);
        for (const [step, token] of tokens.entries()) {
          const logits = score.logits.subarray(step * vocabularySize, (step + 1) * vocabularySize);
          // Cached and uncached arithmetic round differently: a chosen token may miss the best by that much and no more.
          assert.ok((logits[token] ?? 0) >= (logits[argmax(logits)] ?? 0) - 1e-4, `prompt ${index}, step ${step}`);
        }
        assertClose(logProbabilities, score.logProbabilities.slice(prompt.length), 1e-4, `prompt ${index}`);
      }
    });

    law('do not depend on what the prompts have in common', async (engine) => {
      // What all begin with is read once, up to the last token but one of the shortest; the second is all of it.
      const [common, ...ends] = rowsOf([70, 1, 9, 64, 33], 58).map(({ tokens }) => tokens) as [number[], ...number[][]];
      const alike = [...ends.map((end) => [...common, ...end]), [...common]].map((tokens, index) => ({ tokens, seed: 200 + index }));
      const together = await engine.sample(alike, { ...greedy, batchSize: 3 });
      for (const [index, request] of alike.entries()) {
        const [alone] = await engine.sample([request], greedy);
        assert.deepEqual(together[index]?.tokens, alone?.tokens, `prompt ${index}`);
        assertClose(together[index]?.logProbabilities ?? [], alone?.logProbabilities ?? [], 1e-5, `prompt ${index}`);
      }
    });

    law('drawn ones do not depend on their company, order or the batch size', async (engine) => {
      const options = { ...greedy, temperature: 0.8, topP: 0.9 };
      const together = await engine.sample(prompts, options);
      const reversed = await engine.sample(prompts.toReversed(), { ...options, batchSize: 2 });
      assert.deepEqual(
        reversed.toReversed().map(({ tokens }) => tokens),
        together.map(({ tokens }) => tokens),
      );
      for (const [index, prompt] of prompts.entries()) {
        const [alone] = await engine.sample([prompt], options);
        assert.deepEqual(alone?.tokens, together[index]?.tokens, `prompt ${index}`);
      }
      const others = await engine.sample(
        prompts.map((prompt) => ({ ...prompt, seed: prompt.seed + 1 })),
        options,
      );
      assert.notDeepEqual(
        others.map(({ tokens }) => tokens),
        together.map(({ tokens }) => tokens),
      );
    });

    law('are drawn from the model’s distribution, temperature and top-p applied', async (engine) => {
      const prompt = prompts[0]?.tokens ?? [];
      const drawCount = 300;
      const [score] = await engine.score([{ tokens: prompt, logitPositions: [prompt.length - 1] }]);
      const logits = [...(score?.logits ?? [])];
      const [temperature, topP] = [1.5, 0.7];
      const expected = nucleus(logits, temperature, topP);
      const requests = Array.from({ length: drawCount }, (_, seed) => ({ tokens: prompt, seed }));
      const samples = await engine.sample(requests, { ...greedy, maximumTokens: 1, temperature, topP });
      const counts = expected.map((_, token) => samples.filter(({ tokens }) => tokens[0] === token).length);
      // Pearson's χ² over tokens that are expected at least five times; beyond mean + 5 deviations lies a chance below 1e-5.
      const likely = expected.flatMap((probability, token) => (probability * drawCount >= 5 ? [token] : []));
      const statistic = likely.reduce((sum, token) => {
        const mean = (expected[token] ?? 0) * drawCount;
        return sum + ((counts[token] ?? 0) - mean) ** 2 / mean;
      }, 0);
      assert.ok(likely.length >= 5);
      assert.ok(statistic < likely.length + 5 * Math.sqrt(2 * likely.length), `χ² ${statistic} over ${likely.length} tokens`);
      const impossible = counts.reduce((sum, count, token) => sum + (expected[token] === 0 ? count : 0), 0);
      assert.equal(impossible, 0, 'tokens outside the nucleus were drawn');
    });

    law('end at an end token, which is their last', async (engine) => {
      const free = await engine.sample(prompts, greedy);
      const endTokens = [free[0]?.tokens[4] ?? -1, free[3]?.tokens[9] ?? -1];
      const stopped = await engine.sample(prompts, { ...greedy, endTokens });
      let stopCount = 0;
      stopped.forEach(({ tokens, finishReason, logProbabilities }, index) => {
        const all = free[index]?.tokens ?? [];
        const end = all.findIndex((token) => endTokens.includes(token));
        assert.deepEqual(tokens, end === -1 ? all : all.slice(0, end + 1), `prompt ${index}`);
        assert.equal(finishReason, end === -1 ? 'length' : 'stop');
        assert.equal(logProbabilities.length, tokens.length);
        if (end !== -1) stopCount++;
      });
      assert.ok(stopCount >= 2);
    });

    law('are handed out one by one, and no more of them once the signal is aborted', async (engine) => {
      const controller = new AbortController();
      const heard = new Map<number, readonly number[]>();
      const reason = new Error('enough');
      const stopped = engine.sample(
        prompts,
        { ...greedy, maximumTokens: 64, batchSize: 1 },
        {
          signal: controller.signal,
          onSample: (index, { tokens }) => {
            heard.set(index, tokens);
            if (heard.size === 2) controller.abort(reason);
          },
        },
      );
      await assert.rejects(stopped, reason);
      assert.ok(heard.size >= 2 && heard.size < prompts.length, `${heard.size} samples were handed out`);
      const whole = await engine.sample(prompts, { ...greedy, maximumTokens: 64 });
      for (const [index, tokens] of heard) assert.deepEqual(tokens, whole[index]?.tokens, `prompt ${index}`);
    });

    law('see the adapters', async (engine) => {
      const adapted = await engine.sample(prompts, greedy);
      await using({ parameters: { kind: 'none' } }, async (base) => {
        assert.notDeepEqual(
          (await base.sample(prompts, greedy)).map(({ tokens }) => tokens),
          adapted.map(({ tokens }) => tokens),
        );
      });
    });

    law('of no prompts are none', async (engine) => {
      assert.deepEqual(await engine.sample([], greedy), []);
    });
  });
};

const argmax = (values: Float32Array): number => values.indexOf(Math.max(...values));

/** Probabilities after temperature and top-p: the most likely tokens up to the one with which they reach topP, then renormalised. */
const nucleus = (logits: readonly number[], temperature: number, topP: number): number[] => {
  const largest = Math.max(...logits);
  const weights = logits.map((value) => Math.exp((value - largest) / temperature));
  const total = weights.reduce((sum, value) => sum + value, 0);
  const order = weights.map((weight, token) => ({ token, probability: weight / total })).sort((a, b) => b.probability - a.probability);
  const kept = new Map<number, number>();
  let mass = 0;
  for (const { token, probability } of order) {
    if (mass >= topP) break;
    kept.set(token, probability);
    mass += probability;
  }
  return logits.map((_, token) => (kept.get(token) ?? 0) / mass);
};
