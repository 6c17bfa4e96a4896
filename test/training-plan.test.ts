import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { memoryBytes } from '../src/base/memory.ts';
import { loadModel } from '../src/engines/loaded-model.ts';
import { programBytes, runnerLayout } from '../src/engines/program-memory.ts';
import { lossGraph } from '../src/engines/step-graphs.ts';
import { trainingGraph } from '../src/engines/training-graph.ts';
import { planTraining } from '../src/engines/training-plan.ts';
import { crossEntropy, rowsOf } from './engine-laws/suite.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

const specification = tinySpecification({ parameters: tinyLora, layout: 'thread' });

const model = await loadModel(specification);

describe('what is kept for the way back', () => {
  const options = { decoder: model.decoder, lora: tinyLora, shape: { batch: 1, sequence: 256, lossCount: 256 } };
  const trainable = Object.keys(model.trainable);
  const [kept, recomputed] = (['kept', 'recomputed'] as const).map((activations) =>
    programBytes(lossGraph(options, crossEntropy, { trainable, activations })),
  ) as [number, number];
  const chosenFor = (limitBytes: number) => trainingGraph(options, crossEntropy, { trainable, activations: undefined, limitBytes });

  it('is all where the program takes no more than its share of the limit, and little where it would', () => {
    assert.deepEqual([chosenFor(2 * kept).activations, chosenFor(2 * kept).sizeBytes], ['kept', kept]);
    assert.deepEqual([chosenFor(1.5 * kept).activations, chosenFor(1.5 * kept).sizeBytes], ['recomputed', recomputed]);
  });

  it('is as the user says, whatever there is', () => {
    const { activations } = trainingGraph(options, crossEntropy, { trainable, activations: 'kept', limitBytes: 1 });
    assert.equal(activations, 'kept');
  });

  it('is refused before anything is compiled where even the least does not fit', () => {
    assert.throws(() => trainingGraph(options, crossEntropy, { trainable, activations: undefined, limitBytes: 1, totalBytes: 1000 }), {
      name: 'UserError',
      message: /1 × 256 tokens needs about .* GB.*Take a smaller model, or leave longer rows out \(training\.maximumLength\)/,
    });
    assert.throws(() => trainingGraph(options, crossEntropy, { trainable, activations: 'kept', limitBytes: 1, totalBytes: 1000 }), {
      name: 'UserError',
      message: /Take engine\.activations: recomputed/,
    });
  });
});

describe('the plan of a training', () => {
  it('counts the runs of every shape, and the memory of all runners', async () => {
    const steps = [rowsOf([90, 60], 1), rowsOf([95, 20], 2)];
    const one = await planTraining(specification, steps, [], crossEntropy);
    assert.equal(one.tokenCount, 90 + 60 + 95 + 20);
    assert.equal(one.placeCount, 2 * 96 + 64 + 32);
    assert.deepEqual(
      one.runs.map(({ shape, count }) => [shape.batch, shape.sequence, count]),
      [
        [1, 96, 2],
        [1, 64, 1],
        [1, 32, 1],
      ],
    );
    const { memory } = one;
    assert.equal(memory.totalBytes, memory.processBytes + memory.weightsBytes + memory.programsBytes + memory.stateBytes);
    const two = await planTraining({ ...specification, runnerCount: 2 }, steps, rowsOf([30], 3), crossEntropy);
    assert.ok(two.memory.programsBytes > 2 * memory.programsBytes, 'twice as many, and one that measures');
  });

  it('gives all that computes at once half of the memory together, however many threads there are', () => {
    for (const [runnerCount, threadCount] of [
      [1, undefined],
      [1, 1],
      [2, 2],
      [4, 64],
      [4, 6],
      [3, 1],
    ] as const) {
      const layout = runnerLayout({ runnerCount, device: 'cpu', ...(threadCount !== undefined && { threadCount }) });
      assert.equal(layout.runnerCount, runnerCount);
      assert.equal((layout.limitBytes ?? 0) * runnerCount, memoryBytes() / 2);
      if (threadCount !== undefined) assert.equal(layout.threadCount, Math.max(1, Math.floor(threadCount / runnerCount)));
    }
    assert.equal(runnerLayout({ runnerCount: 2, device: 'cpu', memoryShare: 0.25 }).limitBytes, memoryBytes() / 8);
    // A device has one runner, and memory of which nothing is known here.
    assert.deepEqual(runnerLayout({ runnerCount: 4, threadCount: 4, device: 'webgpu' }), { runnerCount: 1, threadCount: 4 });
  });

  it('packs the rows of a large model, and checks every row', async () => {
    const large = { ...specification, tokensPerRun: 256 };
    const plan = await planTraining(large, [rowsOf([90, 60, 100], 1), rowsOf([30], 2)], rowsOf([64], 3), crossEntropy);
    assert.deepEqual(
      plan.runs.map(({ shape: { batch, sequence, packed }, count }) => [batch, sequence, packed, count]),
      [
        [1, 128, true, 2],
        [2, 128, true, 1],
      ],
    );
    await assert.rejects(planTraining(large, [rowsOf([90, 300], 1)], [], crossEntropy), {
      name: 'UserError',
      message: /row 1: 300 tokens, more than the 256 that the model was made for/,
    });
  });

  it('counts what is given at every run: masks of dropout', () => {
    const graphOf = (dropout: number) =>
      lossGraph(
        { decoder: model.decoder, lora: { ...tinyLora, dropout }, shape: { batch: 1, sequence: 64, lossCount: 64 } },
        crossEntropy,
        { trainable: Object.keys(model.trainable), activations: 'kept' },
      );
    const masks = [...graphOf(0.1).inputs].filter(([name]) => name.startsWith('dropout:'));
    const bytes = masks.reduce((sum, [, { type }]) => sum + 4 * type.shape.reduce((size, length) => size * length, 1), 0);
    assert.ok(bytes > 0 && programBytes(graphOf(0.1)) - programBytes(graphOf(0)) > bytes);
  });
});
