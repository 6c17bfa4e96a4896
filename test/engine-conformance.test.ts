import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import { engineConformance } from './engine-conformance.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

engineConformance({ name: 'ONNX Runtime in this thread', create: createEngine, layout: 'thread' });
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
