import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { parseLlamaConfig } from '../src/models/llama-config.ts';
import { toyConfig } from './toy-model.ts';

const { head_dim: _, ...withoutHeadWidth } = toyConfig;

describe('the config.json of a Llama-family model', () => {
  it('may leave the head width to the width and the heads', () => {
    assert.equal(parseLlamaConfig(withoutHeadWidth).headWidth, 32 / 4);
    assert.equal(parseLlamaConfig(toyConfig).headWidth, 8);
  });

  const refused: Readonly<Record<string, readonly [changes: object, message: RegExp]>> = {
    'an odd head width': [{ head_dim: 7 }, /head width .* even whole number, not 7/],
    'heads that do not divide the width': [{ head_dim: undefined, hidden_size: 34 }, /even whole number, not 8\.5/],
    'heads that the key-value heads do not divide': [{ num_key_value_heads: 3 }, /num_attention_heads \(4\) .* num_key_value_heads \(3\)/],
    'heads rotated in part': [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
    'heads rotated in part, as transformers 5 writes it': [
      { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } },
      /rope_parameters\.partial_rotary_factor/,
    ],
    'another stretching of positions': [
      { rope_scaling: { type: 'linear', factor: 2 } },
      /"linear" is not supported\. Supported: default, llama3/,
    ],
    'biases in attention': [{ attention_bias: true }, /attention_bias/],
    'another activation': [{ hidden_act: 'gelu' }, /hidden_act/],
    'no layers': [{ num_hidden_layers: 0 }, /num_hidden_layers/],
  };
  for (const [what, [changes, message]] of Object.entries(refused)) {
    it(`is refused with ${what}`, () => {
      assert.throws(
        () => parseLlamaConfig({ ...toyConfig, ...changes }),
        (error: unknown) => error instanceof UserError && message.test(error.message),
      );
    });
  }
});
