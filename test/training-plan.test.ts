import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { memoryBytes } from '../src/base/memory.ts';
import { loadModel } from '../src/engines/loaded-model.ts';
import { programBytes, programLimitBytes } from '../src/engines/program-memory.ts';
import { lossGraph } from '../src/engines/step-graphs.ts';
import { trainingGraph } from '../src/engines/training-graph.ts';
import { planTraining } from '../src/engines/training-plan.ts';
import { crossEntropy, rowsOf } from './engine-laws/suite.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

const specification = tinySpecification({ parameters: tinyLora, layout: 'thread' });

describe('what is kept for the way back', async () => {
  const model = await loadModel(specification);
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
      message: /1 × 256 tokens needs about .* GB.*Leave longer rows out \(training\.maximumLength\)/,
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

  it('shares the memory among the threads that compute at once', () => {
    assert.ok(programLimitBytes(1) <= programLimitBytes());
    assert.ok(programLimitBytes() <= memoryBytes() / 2);
  });
});
