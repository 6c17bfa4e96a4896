import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import { engineConformance } from './engine-conformance.ts';
import { adamw, assertSame, crossEntropy, greedy, rowsOf, unequal } from './engine-laws/suite.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

engineConformance({ name: 'ONNX Runtime in this thread', create: createEngine, layout: 'thread' });
engineConformance({
  name: 'ONNX Runtime, two runners',
  create: (specification) => createEngine({ ...specification, runnerCount: 2, threadCount: 2 }),
  layout: 'thread',
});
engineConformance({ name: 'ONNX Runtime in a worker thread', create: createEngine, layout: 'worker' });

it('an engine in a worker thread leaves this thread free', async () => {
  const engine = await createEngine(tinySpecification({ layout: 'worker', parameters: tinyLora }));
  try {
    const row = {
      tokens: Array.from({ length: 256 }, (_, index) => index % 96),
      weights: Array.from({ length: 256 }, (_, index) => (index === 0 ? 0 : 1)),
    };
    const rows = Array.from({ length: 24 }, () => row);
    await engine.forwardBackward(rows, { name: 'cross-entropy' }); // compiles
    let last = performance.now();
    let longestPauseMs = 0;
    const tick = () => {
      const now = performance.now();
      longestPauseMs = Math.max(longestPauseMs, now - last);
      last = now;
    };
    const timer = setInterval(tick, 1);
    const begin = performance.now();
    await engine.forwardBackward(rows, { name: 'cross-entropy' });
    tick();
    clearInterval(timer);
    const durationMs = performance.now() - begin;
    // Were the arithmetic in this thread, one pause would be nearly the whole call.
    assert.ok(longestPauseMs < durationMs / 3, `a pause of ${longestPauseMs} ms in a call of ${durationMs} ms`);
  } finally {
    await engine.release();
  }
});

it('two runners give the same bytes as one: losses, gradients, samples, scores', async () => {
  const train = async (runnerCount: number) => {
    const engine = await createEngine({
      ...tinySpecification({ parameters: { ...tinyLora, dropout: 0.1 }, layout: 'thread' }),
      runnerCount,
      threadCount: runnerCount,
    });
    try {
      const rows = rowsOf([...unequal, 150, 90, 200, 41, 77, 33], 5);
      const sums = [];
      for (let step = 0; step < 3; step++) {
        sums.push(await engine.forwardBackward(rows, crossEntropy));
        await engine.optimStep({ optimiser: adamw, learningRate: 1e-2, tokenCount: 100 });
      }
      const requests = rows.map(({ tokens }, seed) => ({ tokens: tokens.slice(0, 20), seed }));
      // Enough of them that both runners decode
      const samples = await engine.sample(Array.from({ length: 5 }, () => requests).flat(), { ...greedy, temperature: 0.8, batchSize: 4 });
      const scores = await engine.score(rows.map(({ tokens }) => ({ tokens })));
      return { sums, samples, scores, parameters: await engine.parameters() };
    } finally {
      await engine.release();
    }
  };
  const [one, two] = [await train(1), await train(2)];
  assert.deepEqual(two.sums, one.sums);
  assertSame(two.parameters, one.parameters, 'parameters after three steps');
  assert.deepEqual(
    two.samples.map(({ tokens }) => tokens),
    one.samples.map(({ tokens }) => tokens),
  );
  assert.deepEqual(two.scores, one.scores);
});
