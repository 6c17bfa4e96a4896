import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { profileStep } from '../src/engines/step-profile.ts';
import { crossEntropy, rowsOf } from './engine-laws/suite.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

const sumOf = (lines: readonly { readonly durationMs: number }[]): number => lines.reduce((sum, { durationMs }) => sum + durationMs, 0);

describe('the profile of a training step', () => {
  for (const precision of ['float32', 'int8'] as const) {
    it(`accounts for all of its time by op and by layer, in ${precision}`, async () => {
      const specification = { ...tinySpecification({ parameters: tinyLora, layout: 'thread' }), precision };
      const { byOp, byLayer, durationMs, shape, tokenCount } = await profileStep(specification, rowsOf([90, 60, 95], 1), crossEntropy);
      // The two rows of the 96-token bucket, together
      assert.deepEqual([shape.batch, shape.sequence, tokenCount], [2, 96, 185]);
      for (const lines of [byOp, byLayer]) {
        assert.ok(Math.abs(sumOf(lines) - durationMs) < 1e-6 * durationMs);
        assert.ok(Math.abs(lines.reduce((sum, { share }) => sum + share, 0) - 1) < 1e-9);
      }
      // Every layer has a way forward and a way back, and every node of ours belongs somewhere.
      const names = byLayer.map(({ name }) => name);
      const layers = [0, 1].flatMap((layer) => [`layer ${layer}`, `layer ${layer}, back`]);
      assert.deepEqual(
        names.filter((name) => name.startsWith('layer')),
        layers,
      );
      const [forward, back] = ['layer 1', 'layer 1, back'].map((name) => byLayer.find((line) => line.name === name)?.count ?? 0);
      assert.ok((back ?? 0) > (forward ?? 0) / 2, `${forward} ops forward, ${back} back`);
      const products = byOp.find(({ name }) => name === (precision === 'int8' ? 'MatMulIntegerToFloat' : 'Gemm'));
      assert.ok((products?.gigaflops ?? 0) > 0);
      assert.equal(byOp.find(({ name }) => name === 'Softmax')?.gigaflops, undefined);
    });
  }
});
