import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine, OptimiserSpecification, ParameterSelection, ParameterSet } from '../src/engines/engine.ts';
import { readAdapter } from '../src/weights/adapter.ts';
import { assertClose, assertTensorsClose, gradientsOf } from './golden/compare.ts';
import distillation from './golden/distillation-loss.json' with { type: 'json' };
import { goldenPath, goldenTensors, tensorOf, tinyLora, tinySpecification } from './golden/golden-files.ts';
import full from './golden/tiny-full.json' with { type: 'json' };
import lora from './golden/tiny-lora.json' with { type: 'json' };

// PEFT and torch.optim in float32, written by test/golden/tiny_lora.py, tiny_full.py and distillation_loss.py.
const tolerance = 1e-4;
const crossEntropy = { name: 'cross-entropy' } as const;

/** The parameters of an adapter that PEFT wrote, read as any user's is. */
const adapter = async (name: string): Promise<ParameterSet> => {
  const { parameters, lora: shape } = await readAdapter(goldenPath('tiny-lora', name));
  assert.deepEqual({ ...shape, targets: shape.targets.toSorted() }, { ...lora.lora, dropout: 0, targets: lora.lora.targets.toSorted() });
  return parameters;
};

const withEngine = async (parameters: ParameterSelection, start: ParameterSet | undefined, use: (engine: Engine) => Promise<void>) => {
  const engine = await createEngine(tinySpecification({ parameters }));
  try {
    if (start !== undefined) await engine.load(start);
    await use(engine);
  } finally {
    await engine.release();
  }
};

interface GoldenStep {
  readonly lossSum: number;
  readonly tokenCount: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
}

/** Ten optimiser steps; each mean loss and each gradient norm must be the golden one. */
const checkSteps = async (engine: Engine, optimiser: OptimiserSpecification, steps: readonly GoldenStep[]): Promise<void> => {
  assert.equal(steps.length, 10);
  for (const [index, { lossSum, tokenCount, learningRate, gradientNorm }] of steps.entries()) {
    const sums = await engine.forwardBackward(lora.batches[index] ?? [], crossEntropy);
    assert.equal(sums.tokenCount, tokenCount);
    assertClose([sums.sum / tokenCount], [lossSum / tokenCount], tolerance, `mean loss of step ${index}`);
    const report = await engine.optimStep({ optimiser, learningRate, tokenCount, maximumNorm: lora.maximumNorm });
    assertClose([report.gradientNorm / gradientNorm], [1], tolerance, `gradient norm of step ${index}, relative`);
  }
};

describe('LoRA on tiny-llama equals PEFT', () => {
  it('in logits with an adapter that PEFT saved', async () => {
    const expected = await goldenTensors('tiny-lora.safetensors', 'logits.');
    await withEngine(tinyLora, await adapter('initial'), async (engine) => {
      const scores = await engine.score(lora.rows.map(({ tokens }) => ({ tokens, logitPositions: tokens.map((_, position) => position) })));
      scores.forEach(({ logits }, index) => {
        assertClose(logits ?? [], tensorOf(expected, String(index)), tolerance, `logits of row ${index}`);
      });
    });
  });

  it('in the loss of each row and of the batch', async () => {
    await withEngine(tinyLora, await adapter('initial'), async (engine) => {
      const sums = await engine.forward(lora.rows, crossEntropy);
      sums.forEach(({ sum, tokenCount }, index) => {
        assertClose([sum / tokenCount], [(lora.lossSumOfEachRow[index] ?? 0) / tokenCount], tolerance, `mean loss of row ${index}`);
      });
      const batch = await engine.forwardBackward(lora.rows, crossEntropy);
      assert.equal(batch.tokenCount, lora.tokenCount);
      assertClose([batch.sum / batch.tokenCount], [lora.lossSum / lora.tokenCount], tolerance, 'mean loss of the batch');
    });
  });

  it('in every gradient of a batch of unequal rows with a masked loss', async () => {
    await withEngine(tinyLora, await adapter('initial'), async (engine) => {
      const gradients = await gradientsOf(engine, lora.rows, crossEntropy);
      assertTensorsClose(gradients, await goldenTensors('tiny-lora.safetensors', 'gradient.'), tolerance, 'gradient');
    });
  });

  it('over ten AdamW steps: losses, norms, the adapter after them and its logits', async () => {
    await withEngine(tinyLora, await adapter('initial'), async (engine) => {
      await checkSteps(engine, { name: 'adamw', ...lora.adamw.options }, lora.adamw.steps);
      assertTensorsClose(await engine.parameters(), await adapter('after-adamw'), tolerance, 'after AdamW');
      const tokens = lora.rows[0]?.tokens ?? [];
      const [score] = await engine.score([{ tokens, logitPositions: tokens.map((_, position) => position) }]);
      const expected = tensorOf(await goldenTensors('tiny-lora.safetensors'), 'logits.after-adamw');
      assertClose(score?.logits ?? [], expected, 10 * tolerance, 'logits after AdamW');
    });
  });

  it('over ten steps of SGD with momentum and decay', async () => {
    await withEngine(tinyLora, await adapter('initial'), async (engine) => {
      await checkSteps(engine, { name: 'sgd', ...lora.sgd.options }, lora.sgd.steps);
      assertTensorsClose(await engine.parameters(), await adapter('after-sgd'), tolerance, 'after SGD');
    });
  });

  for (const [index, expected] of distillation.tinyLora.entries()) {
    it(`in the distillation loss and its gradients, α ${expected.alpha}, T ${expected.temperature}`, async () => {
      const teacher = await goldenTensors('distillation-loss.safetensors', 'teacher.');
      const rows = lora.rows.map((row, rowIndex) => ({ ...row, teacherLogits: tensorOf(teacher, String(rowIndex)) }));
      const loss = { name: 'distillation', alpha: expected.alpha, temperature: expected.temperature } as const;
      await withEngine(tinyLora, await adapter('initial'), async (engine) => {
        const sums = await engine.forwardBackward(rows, loss);
        assert.equal(sums.tokenCount, expected.tokenCount);
        assertClose([sums.sum / sums.tokenCount], [expected.sum / expected.tokenCount], tolerance, 'mean loss');
        await engine.load(await engine.parameters()); // forgets the accumulation
        const gradients = await gradientsOf(engine, rows, loss);
        assertTensorsClose(gradients, await goldenTensors('distillation-loss.safetensors', `gradient.${index}.`), tolerance, 'gradient');
      });
    });
  }
});

describe('training every parameter of tiny-llama equals transformers', () => {
  it('in every gradient; the tied embedding has one, summed over both uses', async () => {
    await withEngine({ kind: 'all' }, undefined, async (engine) => {
      const gradients = await gradientsOf(engine, lora.rows, crossEntropy);
      assertTensorsClose(gradients, await goldenTensors('tiny-full.safetensors', 'gradient.'), tolerance, 'gradient');
    });
  });

  it('over ten AdamW steps', () =>
    withEngine({ kind: 'all' }, undefined, (engine) => checkSteps(engine, { name: 'adamw', ...full.adamw.options }, full.adamw.steps)));
});
