import assert from 'node:assert/strict';
import { describe } from 'node:test';
import type { EngineSpecification, ParameterSet } from '../../src/engines/engine.ts';
import { assertClose, relativeDistance } from '../golden/compare.ts';
import { tensorOf, tinyLoraOfSeed } from '../golden/golden-files.ts';
import { assertSame, contextLength, copyOf, crossEntropy, rowsOf, type Suite, vocabularySize } from './suite.ts';

/** What parameters an engine has, hands out and takes, and its end. */
export const parameterLaws = ({ make, using, law }: Suite): void => {
  describe('information and parameters', () => {
    law('says what the model is', async (engine) => {
      assert.equal(engine.information.architecture, 'LlamaForCausalLM');
      assert.equal(engine.information.vocabularySize, vocabularySize);
      assert.equal(engine.information.contextLength, contextLength);
      // Rank 4 on q 32→64, k and v 32→32, o 64→32, gate and up 32→64, down 64→32, in two layers.
      assert.equal(engine.information.trainableCount, 2 * 4 * (96 + 64 + 64 + 96 + 96 + 96 + 96));
      // The tied embedding counted once.
      assert.equal(engine.information.parameterCount, 96 * 32 + 2 * (2 * 64 * 32 + 2 * 32 * 32 + 3 * 64 * 32 + 2 * 32) + 32);
    });

    law('draws adapters as PEFT does: A uniform within 1/sqrt(inputs), B zero, the same for the same seed', async () => {
      const drawn = async (seed: number) => {
        let set: ParameterSet = {};
        await using({ parameters: tinyLoraOfSeed(seed) }, async (engine) => {
          set = copyOf(await engine.parameters());
        });
        return set;
      };
      const [first, again, other] = [await drawn(1), await drawn(1), await drawn(2)];
      assertSame(again, first, 'the same seed');
      for (const [parameter, { shape, data }] of Object.entries(first)) {
        assert.match(parameter, /^model\.layers\.[01]\.(self_attn|mlp)\.[a-z]+_proj\.lora_[AB]\.weight$/);
        if (parameter.includes('lora_B')) {
          assert.ok(
            data.every((value) => value === 0),
            `${parameter} is not zero`,
          );
          continue;
        }
        const bound = 1 / Math.sqrt(shape[1] ?? 0);
        const largest = Math.max(...data.map(Math.abs));
        // Of 128 or more uniform draws the largest lies above 0.9 of the bound but for a chance of 0.9^128 = 1e-6.
        assert.ok(largest <= bound && largest > 0.9 * bound, `${parameter}: largest ${largest}, bound ${bound}`);
        assert.notDeepEqual(data, tensorOf(other, parameter));
      }
    });

    law('adapters with B = 0 change nothing; others do', async (engine) => {
      const tokens = rowsOf([40], 5)[0]?.tokens ?? [];
      const [changed] = await engine.score([{ tokens }]);
      await using({ parameters: { kind: 'none' } }, async (base) => {
        const [plain] = await base.score([{ tokens }]);
        assert.ok(plain && changed);
        await using({}, async (fresh) => {
          const [zero] = await fresh.score([{ tokens }]);
          assertClose(zero?.logProbabilities ?? [], plain.logProbabilities, 1e-6, 'B = 0');
        });
        assert.ok(relativeDistance(changed.logProbabilities, plain.logProbabilities) > 1e-2);
      });
    });

    law('hands out copies: writing into them changes nothing', async (engine) => {
      const kept = copyOf(await engine.parameters());
      for (const { data } of Object.values(await engine.parameters())) data.fill(7);
      for (const { data } of Object.values((await engine.state()).parameters)) data.fill(7);
      assertSame(await engine.parameters(), kept, 'parameters');
    });

    law('takes copies: writing into what was loaded changes nothing', async (engine, start) => {
      const mine = copyOf(start);
      await engine.load(mine);
      for (const { data } of Object.values(mine)) data.fill(7);
      assertSame(await engine.parameters(), start, 'parameters');
    });

    law('refuses parameters of other names or shapes', async (engine, start) => {
      const [first = ''] = Object.keys(start);
      const { [first]: _, ...missing } = start;
      await assert.rejects(engine.load(missing), new RegExp(first.replaceAll('.', '\\.')));
      await assert.rejects(engine.load({ ...start, [first]: { shape: [1, 1], data: new Float32Array(1) } }), /shape/);
      await assert.rejects(engine.load({ ...start, 'model.unknown': { shape: [1], data: new Float32Array(1) } }), /model\.unknown/);
      assertSame(await engine.parameters(), start, 'a refused load left the parameters as they were');
    });
  });

  describe('random weights', () => {
    const randomWeights = (seed: number): Partial<EngineSpecification> => ({
      initialisation: { from: 'random', seed },
      parameters: { kind: 'all' },
    });

    law('are matrices of the config’s deviation and norms of 1, the same for the same seed', () =>
      using(randomWeights(1), async (engine) => {
        const parameters = copyOf(await engine.parameters());
        assert.equal(engine.information.trainableCount, engine.information.parameterCount);
        for (const [parameter, { shape, data }] of Object.entries(parameters)) {
          if (shape.length === 1) {
            assert.ok(
              data.every((value) => value === 1),
              parameter,
            );
            continue;
          }
          // config.json's initializer_range is 0.02; the deviation of n draws is off by 0.02/sqrt(2n), n at least 1024.
          const deviation = Math.sqrt(data.reduce((sum, value) => sum + value * value, 0) / data.length);
          assert.ok(Math.abs(deviation - 0.02) < 5 * (0.02 / Math.sqrt(2 * data.length)), `${parameter}: deviation ${deviation}`);
        }
        await using(randomWeights(1), async (same) => assertSame(await same.parameters(), parameters, 'the same seed'));
        await using(randomWeights(2), async (other) => {
          const name = 'model.layers.0.mlp.up_proj.weight';
          assert.notDeepEqual(tensorOf(await other.parameters(), name), tensorOf(parameters, name));
        });
      }),
    );

    law('know nothing yet: about ln(vocabulary) nats a token', () =>
      using(randomWeights(3), async (engine) => {
        const sums = await engine.forward(rowsOf([64, 64], 81), crossEntropy);
        // Logits of a normalised hidden state deviate by 0.02·√32 = 0.11, their mean over 40 tokens by 0.02: five of those.
        for (const { sum, tokenCount } of sums) assertClose([sum / tokenCount], [Math.log(96)], 0.1, 'mean loss');
      }),
    );
  });

  describe('release', () => {
    law('twice is once', async () => {
      const engine = await make({ parameters: { kind: 'none' } });
      await engine.score([{ tokens: [1, 2, 3] }]);
      await engine.release();
      await engine.release();
    });

    law('then no call is answered', async () => {
      const engine = await make();
      await engine.release();
      await assert.rejects(engine.score([{ tokens: [1, 2, 3] }]), /release/);
      await assert.rejects(engine.forwardBackward(rowsOf([9], 71), crossEntropy), /release/);
      await assert.rejects(engine.parameters(), /release/);
    });
  });
};
