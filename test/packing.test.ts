import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import type { EngineSpecification, LossSpecification, TokenRow } from '../src/engines/engine.ts';
import { loadModel } from '../src/engines/loaded-model.ts';
import { type MicroBatchShape, packed } from '../src/engines/micro-batch.ts';
import { onnxRunner } from '../src/engines/onnx-runner.ts';
import { arraysOf } from '../src/engines/parameter-arrays.ts';
import type { LossOutcome } from '../src/engines/runner.ts';
import { crossEntropy, rowsOf, vocabularySize, withRandomB } from './engine-laws/suite.ts';
import { relativeDistance } from './golden/compare.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';
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
