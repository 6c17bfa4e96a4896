import assert from 'node:assert/strict';
import { describe } from 'node:test';
import type { TokenRow } from '../../src/engines/engine.ts';
import { contextLength, crossEntropy, greedy, rowsOf, type Suite, sgd } from './suite.ts';

/** Mistakes are refused before anything is computed, and named. */
export const mistakeLaws = ({ using, law }: Suite): void => {
  describe('mistakes are named', () => {
    const row = (changes: Partial<TokenRow>): TokenRow => ({ tokens: [1, 2, 3], weights: [0, 1, 1], ...changes });
    const long = Array.from({ length: contextLength + 1 }, () => 1);
    const cases: readonly (readonly [string, TokenRow, RegExp])[] = [
      ['a row longer than the context', row({ tokens: long, weights: long.map((_, index) => (index === 0 ? 0 : 1)) }), /257.*256/],
      ['a row without weighted tokens', row({ weights: [0, 0, 0] }), /weight/],
      ['a weight on the first token', row({ weights: [1, 1, 1] }), /first token/],
      ['fewer weights than tokens', row({ weights: [0, 1] }), /3 tokens.*2 weights/],
      ['a weight that is no number', row({ weights: [0, Number.NaN, 1] }), /weight/],
      ['a token outside the vocabulary', row({ tokens: [1, 96, 3] }), /96/],
      ['an empty row', row({ tokens: [], weights: [] }), /no tokens/],
    ];
    for (const [title, bad, message] of cases) {
      law(title, async (engine) => {
        const good = rowsOf([9], 61);
        await assert.rejects(engine.forwardBackward([...good, bad], crossEntropy), { name: 'UserError', message });
        await assert.rejects(engine.forward([...good, bad], crossEntropy), { name: 'UserError', message });
        // A refused call accumulates nothing, not even its good rows.
        await assert.rejects(engine.optimStep({ optimiser: sgd, learningRate: 1, tokenCount: 1 }), /forwardBackward/);
      });
    }

    law('a distillation loss without teacher logits', async (engine) => {
      const loss = { name: 'distillation', alpha: 0.5, temperature: 2 } as const;
      await assert.rejects(engine.forwardBackward([row({})], loss), { name: 'UserError', message: /teacher logits/ });
    });

    law('a prompt that leaves no room for its answer', async (engine) => {
      const prompt = { tokens: long.slice(0, 250), seed: 1 };
      await assert.rejects(engine.sample([prompt], greedy), { name: 'UserError', message: /250.*16.*256/ });
    });

    law('an unknown inner value, with those that there are', async (engine) => {
      await assert.rejects(engine.score([{ tokens: [1, 2], taps: ['hidden.9'] }]), /hidden\.9[\s\S]*hidden\.2/);
    });

    law('training where there is nothing to train', () =>
      using({ parameters: { kind: 'none' } }, (engine) =>
        assert.rejects(engine.forwardBackward(rowsOf([9], 62), crossEntropy), { name: 'UserError', message: /nothing to train/ }),
      ),
    );
  });
};
