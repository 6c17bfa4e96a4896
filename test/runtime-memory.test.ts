import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gradient } from '../src/autodiff/gradient.ts';
import { graphOf } from '../src/graph/graph.ts';
import { float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { add, gemm, mul, reduceSum, silu } from '../src/ops/index.ts';
import { compileProgram } from '../src/runtime/onnx-program.ts';
import type { Program } from '../src/runtime/program.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Resident memory in MB once garbage is gone. Finalisers and the sweeping of array buffers take a while: the least of some looks counts. */
const residentMegabytes = async (): Promise<number> => {
  let least = Infinity;
  for (let look = 0; look < 8; look++) {
    collectGarbage();
    await setTimeout(40);
    least = Math.min(least, process.memoryUsage().rss / 1e6);
  }
  return least;
};

const filled = (rows: number, columns: number, value: number): HostTensor => ({
  dataType: 'float32',
  shape: [rows, columns],
  data: new Float32Array(rows * columns).fill(value),
});

describe('the memory of programs', () => {
  it('is flat over 2000 runs of a step with gradients', async () => {
    const x = input('x', float32(64, 128));
    const weight = input('weight', float32(128, 128));
    const hidden = silu(gemm(x, weight));
    const loss = reduceSum(mul(hidden, hidden), [0, 1]);
    const [slope] = gradient(loss, [weight]);
    const program = await compileProgram(graphOf({ loss, slope: slope ?? assert.fail(), hidden }), { threadCount: 1 });
    try {
      const feeds = { x: filled(64, 128, 0.01), weight: filled(128, 128, 0.01) };
      for (let run = 0; run < 1000; run++) await program.run(feeds);
      const before = await residentMegabytes();
      for (let run = 0; run < 2000; run++) await program.run(feeds);
      const growth = (await residentMegabytes()) - before;
      // One run's outputs are 98 KB: keeping all of them would add 196 MB. What V8 and malloc do by themselves came to 20.
      assert.ok(growth < 60, `2000 runs added ${growth.toFixed(1)} MB`);
    } finally {
      await program.release();
    }
  });

  it('comes back when a program is released', async () => {
    const size = 2048; // 16.8 MB of weights, which ONNX Runtime copies at least once
    const x = input('x', float32(1, size));
    const weight = input('weight', float32(size, size));
    const graph = graphOf({ y: add(gemm(x, weight), x) });
    const weights = new Map([['weight', filled(size, size, 0.5)]]);
    // Held on to, so that it is `release` that frees them, not the garbage collector.
    const kept: Program[] = [];
    const round = async (): Promise<void> => {
      const program = await compileProgram(graph, { threadCount: 1, weights });
      kept.push(program);
      try {
        const { y } = await program.run({ x: filled(1, size, 1) });
        assert.equal(y?.data[0], size / 2 + 1); // 2048 × 0.5 + 1
      } finally {
        await program.release();
      }
    };
    // The allocator settles over the first few and keeps up to 120 MB; 16 programs that are not released hold 31 MB each, 500 in all.
    for (let index = 0; index < 6; index++) await round();
    const before = await residentMegabytes();
    for (let index = 0; index < 16; index++) await round();
    const growth = (await residentMegabytes()) - before;
    assert.equal(kept.length, 22);
    assert.ok(growth < 250, `16 programs of at least 17 MB, all released, left ${growth.toFixed(1)} MB`);
  });
});
