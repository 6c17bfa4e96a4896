import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import type { Engine, EngineSpecification, OptimiserSpecification, ParameterSet, SampleOptions, TokenRow } from '../src/engines/engine.ts';
import { assertClose, assertTensorsClose, relativeDistance, takeGradients } from './golden/compare.ts';
import { tensorOf, tinyLora, tinyLoraOfSeed, tinySpecification } from './golden/golden-files.ts';

/** What an engine must provide to be held to the suite: a way to make it for tiny-llama, and reasons for tests that cannot apply to it. */
export interface ConformanceSubject {
  readonly name: string;
  create(specification: EngineSpecification): Promise<Engine>;
  readonly layout: EngineSpecification['layout'];
  /** Reasons by test name; they are printed. */
  readonly skip?: Readonly<Record<string, string>>;
}

const crossEntropy = { name: 'cross-entropy' } as const;
const adamw: OptimiserSpecification = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
const sgd: OptimiserSpecification = { name: 'sgd', momentum: 0, weightDecay: 0 };
const greedy: SampleOptions = { maximumTokens: 16, temperature: 0, topP: 1, endTokens: [] };
const vocabularySize = 96;
const contextLength = 256;

/** Rows of the given lengths; the first third of each has no weight, and a token in the middle has none either. */
const rowsOf = (lengths: readonly number[], seed: number): TokenRow[] => {
  const random = randomFrom(seed, 'rows');
  return lengths.map((length) => ({
    tokens: Array.from({ length }, () => random.integer(vocabularySize)),
    weights: Array.from({ length }, (_, index) => (index === 0 || index < length / 3 || (length > 8 && index === length - 3) ? 0 : 1)),
  }));
};

const unequal = [37, 5, 64, 12, 2, 33, 100, 21];

/** B away from zero, so that A has a gradient too. */
const withRandomB = (parameters: ParameterSet): ParameterSet => {
  const random = randomFrom(3, 'B');
  return Object.fromEntries(
    Object.entries(parameters).map(([name, { shape, data }]) => [
      name,
      { shape, data: name.includes('lora_B') ? data.map(() => 0.1 * random.normal()) : data },
    ]),
  );
};

const copyOf = (set: ParameterSet): ParameterSet =>
  Object.fromEntries(Object.entries(set).map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]));

/** Byte for byte; assert.deepEqual would print thousands of numbers. */
const assertSame = (actual: ParameterSet, expected: ParameterSet, what: string): void => {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), `${what}: names`);
  const differing = Object.keys(expected).filter((name) => !sameBytes(tensorOf(actual, name), tensorOf(expected, name)));
  assert.deepEqual(differing, [], `${what}: these differ`);
};

const sameBytes = (a: Float32Array, b: Float32Array): boolean =>
  a.length === b.length &&
  Buffer.compare(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) === 0;

const argmax = (values: Float32Array): number => values.indexOf(Math.max(...values));

/** Every engine passes these on tiny-llama, whatever it runs on. Each test states a law; golden numbers are in tests of their own. */
export const engineConformance = ({ name, create, layout, skip = {} }: ConformanceSubject): void => {
  describe(`engine conformance: ${name}`, () => {
    let trained: Engine;
    let start: ParameterSet;
    const make = (changes: Partial<EngineSpecification> = {}) => create(tinySpecification({ layout, parameters: tinyLora, ...changes }));
    const using = async (changes: Partial<EngineSpecification>, use: (engine: Engine) => Promise<void>) => {
      const engine = await make(changes);
      try {
        await use(engine);
      } finally {
        await engine.release();
      }
    };
    /** A test with the shared engine, which has adapters with B not zero and no accumulation at its beginning. */
    const law = (title: string, check: (engine: Engine) => Promise<void>) =>
      it(title, { skip: skip[title] ?? false }, async () => {
        await trained.load(start);
        await check(trained);
      });

    before(async () => {
      trained = await make();
      start = withRandomB(await trained.parameters());
    });
    after(() => trained.release());

    describe('information and parameters', () => {
      law('says what the model is', async (engine) => {
        assert.equal(engine.information.architecture, 'LlamaForCausalLM');
        assert.equal(engine.information.vocabularySize, vocabularySize);
        assert.equal(engine.information.contextLength, contextLength);
        // Rank 4 on q 32→64, k and v 32→32, o 64→32, gate and up 32→64, down 64→32, in two layers.
        assert.equal(engine.information.trainableCount, 2 * 4 * (96 + 64 + 64 + 96 + 96 + 96 + 96));
        // The tied embedding counted once.
        assert.equal(engine.information.parameterCount, 96 * 32 + 2 * (2 * 64 * 32 + 2 * 32 * 32 + 3 * 64 * 32 + 2 * 32) + 32);
      });

      law('draws adapters as PEFT does: A uniform within 1/sqrt(inputs), B zero, the same for the same seed', async () => {
        const drawn = async (seed: number) => {
          let set: ParameterSet = {};
          await using({ parameters: tinyLoraOfSeed(seed) }, async (engine) => {
            set = copyOf(await engine.parameters());
          });
          return set;
        };
        const [first, again, other] = [await drawn(1), await drawn(1), await drawn(2)];
        assertSame(again, first, 'the same seed');
        for (const [parameter, { shape, data }] of Object.entries(first)) {
          assert.match(parameter, /^model\.layers\.[01]\.(self_attn|mlp)\.[a-z]+_proj\.lora_[AB]\.weight$/);
          if (parameter.includes('lora_B')) {
            assert.ok(
              data.every((value) => value === 0),
              `${parameter} is not zero`,
            );
            continue;
          }
          const bound = 1 / Math.sqrt(shape[1] ?? 0);
          const largest = Math.max(...data.map(Math.abs));
          // Of 128 or more uniform draws the largest lies above 0.9 of the bound but for a chance of 0.9^128 = 1e-6.
          assert.ok(largest <= bound && largest > 0.9 * bound, `${parameter}: largest ${largest}, bound ${bound}`);
          assert.notDeepEqual(data, tensorOf(other, parameter));
        }
      });

      law('adapters with B = 0 change nothing; others do', async (engine) => {
        const tokens = rowsOf([40], 5)[0]?.tokens ?? [];
        const [changed] = await engine.score([{ tokens }]);
        await using({ parameters: { kind: 'none' } }, async (base) => {
          const [plain] = await base.score([{ tokens }]);
          assert.ok(plain && changed);
          await using({}, async (fresh) => {
            const [zero] = await fresh.score([{ tokens }]);
            assertClose(zero?.logProbabilities ?? [], plain.logProbabilities, 1e-6, 'B = 0');
          });
          assert.ok(relativeDistance(changed.logProbabilities, plain.logProbabilities) > 1e-2);
        });
      });

      law('hands out copies: writing into them changes nothing', async (engine) => {
        const kept = copyOf(await engine.parameters());
        for (const { data } of Object.values(await engine.parameters())) data.fill(7);
        for (const { data } of Object.values((await engine.state()).parameters)) data.fill(7);
        assertSame(await engine.parameters(), kept, 'parameters');
      });

      law('takes copies: writing into what was loaded changes nothing', async (engine) => {
        const mine = copyOf(start);
        await engine.load(mine);
        for (const { data } of Object.values(mine)) data.fill(7);
        assertSame(await engine.parameters(), start, 'parameters');
      });

      law('refuses parameters of other names or shapes', async (engine) => {
        const [first = ''] = Object.keys(start);
        const { [first]: _, ...missing } = start;
        await assert.rejects(engine.load(missing), new RegExp(first.replaceAll('.', '\\.')));
        await assert.rejects(engine.load({ ...start, [first]: { shape: [1, 1], data: new Float32Array(1) } }), /shape/);
        await assert.rejects(engine.load({ ...start, 'model.unknown': { shape: [1], data: new Float32Array(1) } }), /model\.unknown/);
        assertSame(await engine.parameters(), start, 'a refused load left the parameters as they were');
      });
    });

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
          const expected = weights.reduce(
            (total, weight, position) => total - weight * (scores[index]?.logProbabilities[position] ?? 0),
            0,
          );
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

      law('the gradient is the slope of the loss along a random direction', async (engine) => {
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

      law('report the norm before clipping and move by rate × maximumNorm when it is larger', async (engine) => {
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

      law('load forgets moments and accumulation', async (engine) => {
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

      law('calls that do not wait for one another are answered in order', async (engine) => {
        const rows = rowsOf([20, 9], 25);
        const tokenCount = rows.flatMap(({ weights }) => weights).reduce((sum, weight) => sum + weight, 0);
        const step = { optimiser: adamw, learningRate: 0.01, tokenCount } as const;
        await engine.forwardBackward(rows, crossEntropy);
        await engine.optimStep(step);
        const expected = copyOf(await engine.parameters());
        await engine.load(start);
        const [, , parameters] = await Promise.all([
          engine.forwardBackward(rows, crossEntropy),
          engine.optimStep(step),
          engine.parameters(),
        ]);
        assertSame(parameters, expected, 'parameters after the step');
      });
    });

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

    describe('mistakes are named', () => {
      const row = (changes: Partial<TokenRow>): TokenRow => ({ tokens: [1, 2, 3], weights: [0, 1, 1], ...changes });
      const long = Array.from({ length: contextLength + 1 }, () => 1);
      const cases: readonly (readonly [string, TokenRow, RegExp])[] = [
        ['a row longer than the context', row({ tokens: long, weights: long.map((_, index) => (index === 0 ? 0 : 1)) }), /257.*256/],
        ['a row without weighted tokens', row({ weights: [0, 0, 0] }), /weight/],
        ['a weight on the first token', row({ weights: [1, 1, 1] }), /first token/],
        ['fewer weights than tokens', row({ weights: [0, 1] }), /3 tokens.*2 weights/],
        ['a weight that is no number', row({ weights: [0, Number.NaN, 1] }), /weight/],
        ['a token outside the vocabulary', row({ tokens: [1, 96, 3] }), /96/],
        ['an empty row', row({ tokens: [], weights: [] }), /no tokens/],
      ];
      for (const [title, bad, message] of cases) {
        law(title, async (engine) => {
          const good = rowsOf([9], 61);
          await assert.rejects(engine.forwardBackward([...good, bad], crossEntropy), { name: 'UserError', message });
          await assert.rejects(engine.forward([...good, bad], crossEntropy), { name: 'UserError', message });
          // A refused call accumulates nothing, not even its good rows.
          await assert.rejects(engine.optimStep({ optimiser: sgd, learningRate: 1, tokenCount: 1 }), /forwardBackward/);
        });
      }

      law('a distillation loss without teacher logits', async (engine) => {
        const loss = { name: 'distillation', alpha: 0.5, temperature: 2 } as const;
        await assert.rejects(engine.forwardBackward([row({})], loss), { name: 'UserError', message: /teacher logits/ });
      });

      law('a prompt that leaves no room for its answer', async (engine) => {
        const prompt = { tokens: long.slice(0, 250), seed: 1 };
        await assert.rejects(engine.sample([prompt], greedy), { name: 'UserError', message: /250.*16.*256/ });
      });

      law('an unknown inner value, with those that there are', async (engine) => {
        await assert.rejects(engine.score([{ tokens: [1, 2], taps: ['hidden.9'] }]), /hidden\.9[\s\S]*hidden\.2/);
      });

      law('training where there is nothing to train', () =>
        using({ parameters: { kind: 'none' } }, (engine) =>
          assert.rejects(engine.forwardBackward(rowsOf([9], 62), crossEntropy), { name: 'UserError', message: /nothing to train/ }),
        ),
      );
    });

    describe('release', () => {
      law('twice is once', async () => {
        const engine = await make({ parameters: { kind: 'none' } });
        await engine.score([{ tokens: [1, 2, 3] }]);
        await engine.release();
        await engine.release();
      });

      law('then no call is answered', async () => {
        const engine = await make();
        await engine.release();
        await assert.rejects(engine.score([{ tokens: [1, 2, 3] }]), /release/);
        await assert.rejects(engine.forwardBackward(rowsOf([9], 71), crossEntropy), /release/);
        await assert.rejects(engine.parameters(), /release/);
      });
    });
  });
};

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
