import assert from 'node:assert/strict';
import { it } from 'node:test';
import { hashedValues } from './golden/hashed-values.ts';

// From hashed_values('model.layers.0.self_attn.q_proj.lora_A.weight', [4], 1.0) in test/golden/golden_files.py.
it('the formula for adapters gives the same bits here and in Python', () => {
  assert.deepEqual(
    [...hashedValues('model.layers.0.self_attn.q_proj.lora_A.weight', 4, 1)],
    [-0.932213544845581, -0.22269633412361145, -0.9021613597869873, 0.4226408302783966],
  );
});
