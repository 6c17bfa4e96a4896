import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { env } from 'node:process';
import { after, before, describe, it, type TestContext } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine, ParameterSelection, ParameterSet } from '../src/engines/engine.ts';
import { assertClose, gradientsOf, largestDifference, relativeDistance } from './golden/compare.ts';
import { goldenTensors, tensorOf } from './golden/golden-files.ts';
import { hashedValues } from './golden/hashed-values.ts';
import golden from './golden/smollm2.json' with { type: 'json' };

// SmolLM2-135M-Instruct from its GGUF as gguf, transformers and PEFT compute it in float32: test/golden/smollm2.py.
const logitTolerance = 2e-3;
// Between float32 and exact gradients: rounding to float32 alone moves PEFT's own by golden.gradient.float32Noise, on each processor otherwise.
const gradientTolerance = 5e-4;
const lossTolerance = 1e-4;
const crossEntropy = { name: 'cross-entropy' } as const;

const modelFolder = join(env.RETORT_MODELS ?? '', 'smollm2-135m-instruct');
const skip =
  env.RETORT_MODELS === undefined
    ? 'RETORT_MODELS, the folder of real weights, is not set'
    : !existsSync(join(modelFolder, golden.file)) && `${join(modelFolder, golden.file)} is not there`;

const lora: ParameterSelection = { kind: 'lora', ...golden.lora, dropout: 0, seed: 1 };

/** The adapter that smollm2.py trains: A within 1/sqrt(inputs), B within 0.02, by name and index. */
const hashedAdapter = (parameters: ParameterSet): ParameterSet =>
  Object.fromEntries(
    Object.entries(parameters).map(([name, { shape, data }]) => {
      const scale = name.includes('lora_A') ? 1 / Math.sqrt(shape[1] ?? 0) : 0.02;
      return [name, { shape, data: hashedValues(name, data.length, scale) }];
    }),
  );

/** s·a for the signs s that smollm2.py uses. */
const projection = (name: string, signIndex: number, data: Float32Array): number => {
  const signs = hashedValues(`${name}#${signIndex}`, data.length, 1);
  return data.reduce((sum, value, index) => sum + ((signs[index] as number) >= 0 ? value : -value), 0);
};

/** For random signs s the mean of (s·a − s·b)² estimates ‖a − b‖²: 16 of them tell it within about a fifth. */
const estimatedDistance = (name: string, data: Float32Array, expected: Float32Array, norm: number): number => {
  const squares = [...expected].map((value, signIndex) => (projection(name, signIndex, data) - value) ** 2);
  return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length) / norm;
};

describe('SmolLM2-135M-Instruct equals transformers and PEFT', { skip }, () => {
  let engine: Engine;
  let initial: ParameterSet;
  before(async () => {
    engine = await createEngine({
      modelFolder,
      initialisation: { from: 'folder' },
      parameters: lora,
      precision: 'float32',
      device: 'cpu',
      layout: 'thread',
    });
    initial = await engine.parameters();
  });
  after(() => engine?.release());

  it('in logits and log-probabilities, and in the most likely token but at near-ties', async (test: TestContext) => {
    await engine.load(initial); // B = 0: the base alone
    const positions = Array.from({ length: 64 }, (_, position) => position);
    let largest = 0;
    let swapCount = 0;
    for (const text of golden.texts) {
      const [score] = await engine.score([{ tokens: text.tokens, logitPositions: positions }]);
      assert.ok(score?.logits);
      const rowOf = (position: number) => score.logits?.subarray(position * 49152, (position + 1) * 49152) ?? new Float32Array();
      const chosen = golden.logitPositions.flatMap((position) => golden.logitTokens.map((token) => rowOf(position)[token] ?? Number.NaN));
      largest = Math.max(largest, largestDifference(chosen, text.logits.flat()));
      assertClose(score.logProbabilities.slice(1), text.logProbabilityOfNext, logitTolerance, 'log-probabilities');
      for (const position of positions) {
        const row = rowOf(position);
        const best = row.indexOf(row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY));
        if (best === text.argmax[position]) continue;
        swapCount++;
        const margin = text.margin[position] ?? 0;
        assert.ok(
          margin < 2 * logitTolerance,
          `another most likely token at ${position} of "${text.text.slice(0, 20)}…", margin ${margin}`,
        );
      }
    }
    test.diagnostic(`largest difference of logits ${largest.toExponential(2)}; swapped at near-ties ${swapCount} of ${5 * 64}`);
    assert.ok(largest <= logitTolerance, `logits differ by ${largest}`);
  });

  it('in greedy answers up to a near-tie', async (test: TestContext) => {
    await engine.load(initial);
    const requests = golden.greedy.map(({ prompt }) => ({ tokens: prompt, seed: 0 }));
    const samples = await engine.sample(requests, { maximumTokens: 40, temperature: 0, topP: 1, endTokens: [2] });
    let comparedCount = 0;
    golden.greedy.forEach(({ tokens, margins }, index) => {
      const nearTie = margins.findIndex((margin) => margin < 2 * logitTolerance);
      const count = nearTie === -1 ? tokens.length : nearTie;
      comparedCount += count;
      assert.deepEqual(samples[index]?.tokens.slice(0, count), tokens.slice(0, count));
    });
    test.diagnostic(`${comparedCount} tokens compared`);
    assert.ok(comparedCount > 80, `only ${comparedCount} tokens before near-ties`);
  });

  it('in all 420 LoRA gradients of two real rows', async (test: TestContext) => {
    await engine.load(hashedAdapter(initial));
    const rows = golden.gradient.rows.map((index) => golden.rows[index] ?? { tokens: [], weights: [] });
    const sums = await engine.forward(rows, crossEntropy);
    const { lossSum, tokenCount } = golden.gradient;
    assertClose([sums.reduce((sum, row) => sum + row.sum, 0) / tokenCount], [lossSum / tokenCount], lossTolerance, 'mean loss');
    const gradients = await gradientsOf(engine, rows, crossEntropy);
    assert.deepEqual(Object.keys(gradients).sort(), golden.gradient.names);

    const tensors = await goldenTensors('smollm2.safetensors');
    const projections = tensorOf(tensors, 'projections'); // [tensors, signs]
    const { signCount } = golden.gradient;
    let worst = 0;
    golden.gradient.names.forEach((name, index) => {
      const data = tensorOf(gradients, name);
      const norm = golden.gradient.norms[index] ?? 0;
      const entries = Array.from({ length: 16 }, (_, entry) => data[(entry * 7919) % data.length] ?? Number.NaN);
      // An entry may be off by its share of the tensor's error; ten times the root mean square is generous.
      assertClose(
        entries,
        golden.gradient.entries[index] ?? [],
        (10 * gradientTolerance * norm) / Math.sqrt(data.length),
        `entries of ${name}`,
      );
      const distance = estimatedDistance(name, data, projections.subarray(index * signCount, (index + 1) * signCount), norm);
      assert.ok(distance <= gradientTolerance, `${name}: ‖a−b‖/‖b‖ is about ${distance}`);
      worst = Math.max(worst, distance);
    });
    const whole = Object.entries(tensors).filter(([key]) => key.startsWith('gradient.'));
    const distances = whole.map(([key, { data }]) => {
      const distance = relativeDistance(tensorOf(gradients, key.slice('gradient.'.length)), data);
      assert.ok(distance <= gradientTolerance, `${key}: ‖a−b‖/‖b‖ is ${distance}`);
      return distance;
    });
    test.diagnostic(
      `largest ‖a−b‖/‖b‖ ${Math.max(...distances).toExponential(2)} of ${whole.length} tensors compared whole, about ${worst.toExponential(2)} of all 420`,
    );
  });

  it('in the losses of ten AdamW steps', async (test: TestContext) => {
    await engine.load(hashedAdapter(initial));
    const { batches, options, maximumNorm, steps } = golden.adamw;
    let worst = 0;
    for (const [index, step] of steps.entries()) {
      const rows = (batches[index] ?? []).map((row) => golden.rows[row] ?? { tokens: [], weights: [] });
      const { sum, tokenCount } = await engine.forwardBackward(rows, crossEntropy);
      assert.equal(tokenCount, step.tokenCount);
      const difference = Math.abs(sum - step.lossSum) / tokenCount;
      worst = Math.max(worst, difference);
      assert.ok(difference <= lossTolerance, `step ${index}: the mean losses differ by ${difference}`);
      await engine.optimStep({ optimiser: { name: 'adamw', ...options }, learningRate: step.learningRate, tokenCount, maximumNorm });
    }
    test.diagnostic(`largest difference of mean losses ${worst.toExponential(2)}`);
  });
});
