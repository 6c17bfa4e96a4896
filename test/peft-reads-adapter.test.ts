import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { env } from 'node:process';
import { it, type TestContext } from 'node:test';
import { z } from 'zod';
import { createEngine } from '../src/engines/create-engine.ts';
import { readAdapter, writeAdapter } from '../src/weights/adapter.ts';
import { assertClose } from './golden/compare.ts';
import { goldenPath, tinySpecification } from './golden/golden-files.ts';
import lora from './golden/tiny-lora.json' with { type: 'json' };

// The other direction, PEFT's adapters read here, needs no Python: test/training-golden.test.ts.
const python = env.RETORT_PYTHON;
const skip = python === undefined && 'RETORT_PYTHON, a Python that has PEFT, is not set';

const answerSchema = z.object({ versions: z.record(z.string(), z.string()), logits: z.array(z.array(z.number())) });

const logitsByPeft = (modelFolder: string, adapterFolder: string, rows: readonly (readonly number[])[]) => {
  const script = goldenPath('peft_reads_adapter.py');
  const { status, stdout, stderr } = spawnSync(python ?? '', ['-B', script, modelFolder, adapterFolder], {
    input: JSON.stringify(rows),
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  assert.equal(status, 0, stderr);
  return answerSchema.parse(JSON.parse(stdout));
};

it('an adapter trained and written here gives the same logits when PEFT loads it', { skip }, async (test: TestContext) => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-adapter-'));
  // Targets, rank and alpha unlike those of the golden adapter, so that a default of PEFT's cannot stand in for what was written.
  const shape = { rank: 3, alpha: 12, dropout: 0, targets: ['q_proj', 'v_proj', 'down_proj'] };
  const engine = await createEngine(tinySpecification({ parameters: { kind: 'lora', ...shape, seed: 5 } }));
  try {
    const rows = lora.rows.map(({ tokens }) => tokens);
    const untrained = await engine.score([{ tokens: rows[0] ?? [] }]);
    const optimiser = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 } as const;
    for (let step = 0; step < 5; step++) {
      const { tokenCount } = await engine.forwardBackward(lora.rows, { name: 'cross-entropy' });
      await engine.optimStep({ optimiser, learningRate: 0.05, tokenCount });
    }
    await writeAdapter(folder, { parameters: await engine.parameters(), lora: shape, baseModel: 'tiny-llama' });
    assert.deepEqual((await readAdapter(folder)).parameters, await engine.parameters());

    const { versions, logits } = logitsByPeft(goldenPath('tiny-llama'), folder, rows);
    const scores = await engine.score(rows.map((tokens) => ({ tokens, logitPositions: tokens.map((_, position) => position) })));
    scores.forEach(({ logits: ours }, index) => assertClose(ours ?? [], logits[index] ?? [], 1e-4, `logits of row ${index}`));
    const moved = Math.max(
      ...(scores[0]?.logProbabilities.map((value, index) => Math.abs(value - (untrained[0]?.logProbabilities[index] ?? 0))) ?? []),
    );
    assert.ok(moved > 0.1, `training moved the log-probabilities by ${moved} at most: too little for the comparison to mean anything`);
    test.diagnostic(`PEFT ${versions.peft}, torch ${versions.torch}`);
  } finally {
    await engine.release();
    await rm(folder, { recursive: true });
  }
});
