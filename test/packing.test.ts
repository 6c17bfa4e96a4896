import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine, EngineSpecification, LossSpecification, TokenRow } from '../src/engines/engine.ts';
import { loadModel } from '../src/engines/loaded-model.ts';
import { type MicroBatchShape, packed } from '../src/engines/micro-batch.ts';
import { onnxRunner } from '../src/engines/onnx-runner.ts';
import { arraysOf } from '../src/engines/parameter-arrays.ts';
import type { LossOutcome } from '../src/engines/runner.ts';
import { assertSame, crossEntropy, rowsOf, vocabularySize, withRandomB } from './engine-laws/suite.ts';
import { gradientsOf, relativeDistance } from './golden/compare.ts';
import { tensorOf, tinyLora, tinySpecification } from './golden/golden-files.ts';
import { numbers } from './traced-sample.ts';

const distillation: LossSpecification = { name: 'distillation', alpha: 0.4, temperature: 2 };
const random = randomFrom(7, 'teacher');
const rows: readonly TokenRow[] = rowsOf([40, 25, 33, 60, 12], 9).map((row) => ({
  ...row,
  teacherLogits: Float32Array.from({ length: row.weights.filter((weight) => weight !== 0).length * vocabularySize }, random.normal),
}));

/** Losses and gradients of rows as they lie in lanes. */
const outcomeOf = async (
  lanes: readonly (readonly number[])[],
  shape: MicroBatchShape,
  loss: LossSpecification,
  changes: Partial<EngineSpecification> = {},
): Promise<LossOutcome> => {
  const specification = { ...tinySpecification({ parameters: tinyLora }), ...changes };
  const model = await loadModel(specification);
  const runner = onnxRunner(specification, model);
  try {
    await runner.adopt(arraysOf(withRandomB(model.trainable)));
    return await runner.losses({
      lanes: lanes.map((lane) => lane.map((index) => rows[index] as TokenRow)),
      shape,
      loss,
      training: { dropout: { seed: 0, step: 0, run: 0 } },
    });
  } finally {
    await runner.release();
  }
};

const apart = { batch: 5, sequence: 64, lossCount: 128 };
/** 100 of 128 and 70 of 128 tokens, in the same order. */
const together = { batch: 2, sequence: 128, lossCount: 256, packed: true } as const;

describe('rows that are packed into one sequence', () => {
  for (const [what, loss, changes] of [
    ['float32', crossEntropy, {}],
    ['distillation', distillation, {}],
    ['int8', crossEntropy, { precision: 'int8' }],
    ['recomputed activations', crossEntropy, { activations: 'recomputed' }],
  ] as const) {
    it(`have the losses and gradients that they have by themselves: ${what}`, async () => {
      const alone = await outcomeOf([[0], [1], [2], [3], [4]], apart, loss, changes);
      const shared = await outcomeOf(
        [
          [0, 1, 2],
          [3, 4],
        ],
        together,
        loss,
        changes,
      );
      const count = rows.reduce((sum, { weights }) => sum + weights.filter((weight) => weight !== 0).length, 0);
      for (const [name, values] of Object.entries(alone.columns)) {
        const distance = relativeDistance(shared.columns[name]?.slice(0, count) ?? [], values.slice(0, count));
        assert.ok(distance < 1e-6, `${name}: ${distance}`);
      }
      for (const [name, values] of Object.entries(alone.gradients ?? assert.fail('no gradients'))) {
        const distance = relativeDistance(shared.gradients?.[name] ?? [], values);
        assert.ok(distance < 2e-6, `${name}: ${distance}`);
      }
    });
  }

  it('do not see each other: what stands before a row changes nothing in it', async () => {
    const [first, second] = [
      await outcomeOf([[0, 4]], { ...together, batch: 1 }, crossEntropy),
      await outcomeOf([[1, 4]], { ...together, batch: 1 }, crossEntropy),
    ];
    const countOf = (index: number): number => rows[index]?.weights.filter((weight) => weight !== 0).length ?? 0;
    const own = ({ columns }: LossOutcome, before: number) =>
      Array.from(columns.total?.slice(countOf(before), countOf(before) + countOf(4)) ?? []);
    assert.equal(own(first, 0).length, countOf(4));
    assert.ok(relativeDistance(own(first, 0), own(second, 1)) < 1e-6);
  });

  it('count positions from 0, and so does what fills a lane up', () => {
    const inputs = packed(
      [
        [
          { tokens: [5, 6, 7], weights: [0, 1, 1] },
          { tokens: [8, 9], weights: [0, 1] },
        ],
      ],
      { batch: 1, sequence: 7, lossCount: 4, packed: true },
      10,
    );
    assert.deepEqual(numbers(inputs.positions), [0, 1, 2, 0, 1, 0, 1]);
    assert.deepEqual(numbers(inputs.starts), [0, 0, 0, 3, 3, 5, 5]);
    assert.deepEqual(numbers(inputs.sources), [0, 1, 3, 0]);
    assert.deepEqual(numbers(inputs.targets), [6, 7, 9, 0]);
    assert.deepEqual(numbers(inputs.weights), [1, 1, 1, 0]);
  });
});

describe('an engine that packs', () => {
  const lengths = [40, 25, 33, 60, 12, 100, 7];
  const many = rowsOf(lengths, 5);
  const using = async <Result>(changes: Partial<EngineSpecification>, use: (engine: Engine) => Promise<Result>): Promise<Result> => {
    const engine = await createEngine({ ...tinySpecification({ parameters: tinyLora, layout: 'thread' }), ...changes });
    try {
      await engine.load(withRandomB(await engine.parameters()));
      return await use(engine);
    } finally {
      await engine.release();
    }
  };
  const packing = { tokensPerRun: 256 };

  it('gives every row its own loss, and all together the gradients that they have apart', async () => {
    const apart = await using({}, async (engine) => ({
      losses: await engine.forward(many, crossEntropy),
      gradients: await gradientsOf(engine, many, crossEntropy),
    }));
    const together = await using(packing, async (engine) => ({
      losses: await engine.forward(many, crossEntropy),
      gradients: await gradientsOf(engine, many, crossEntropy),
    }));
    for (const [index, { sum, tokenCount }] of apart.losses.entries()) {
      assert.equal(together.losses[index]?.tokenCount, tokenCount);
      assert.ok(Math.abs((together.losses[index]?.sum ?? 0) / sum - 1) < 1e-5, `row ${index}`);
    }
    for (const name of Object.keys(apart.gradients)) {
      const distance = relativeDistance(tensorOf(together.gradients, name), tensorOf(apart.gradients, name));
      assert.ok(distance < 1e-5, `${name}: ${distance}`);
    }
  });

  it('gives the same bytes with two runners, with dropout too', async () => {
    const dropping = { ...packing, parameters: { ...tinyLora, dropout: 0.2 } };
    const gradients = (changes: Partial<EngineSpecification>) =>
      using({ ...dropping, ...changes }, (engine) => gradientsOf(engine, many, crossEntropy));
    assertSame(await gradients({ runnerCount: 2, threadCount: 2 }), await gradients({}), 'gradients');
  });

  for (const layout of ['thread', 'worker'] as const) {
    it(`refuses rows beyond the limits that it was given, in a ${layout}`, async () => {
      await using({ ...packing, layout }, async (engine) => {
        const limits = { tokenCount: 99, weightedShare: 1 };
        await assert.rejects(engine.forwardBackward(many, crossEntropy, limits), /beyond the limits/);
        await assert.rejects(engine.forward(many, crossEntropy, { tokenCount: 100, weightedShare: 0.1 }), /beyond the limits/);
      });
    });
  }
});
