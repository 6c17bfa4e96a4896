import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine } from '../src/engines/engine.ts';
import { assertClose } from './golden/compare.ts';
import { folderInOldSpelling, goldenPath, goldenTensors, tensorOf, tinySpecification } from './golden/golden-files.ts';
import tied from './golden/tiny-llama.json' with { type: 'json' };
import untied from './golden/tiny-llama-untied.json' with { type: 'json' };

// transformers in float32, written by test/golden/tiny_llama.py. `sensitivity` in its JSON says how far a wrong detail moves the logits:
// RoPE scaling left out 12.3, its factors off 10, another epsilon 1.2e-3.
const tolerance = 1e-4;

/** Logits lie within this of transformers', so two words nearer than twice that may swap. */
const swapMargin = 2 * tolerance;

type Golden = typeof tied | typeof untied;

const withEngine = async (modelFolder: string, use: (engine: Engine) => Promise<void>): Promise<void> => {
  const engine = await createEngine(tinySpecification({ modelFolder }));
  try {
    await use(engine);
  } finally {
    await engine.release();
  }
};

const checkLogits = async (engine: Engine, golden: Golden, fileName: string): Promise<void> => {
  const expected = await goldenTensors(fileName);
  const scores = await engine.score(golden.rows.map((tokens) => ({ tokens, logitPositions: tokens.map((_, position) => position) })));
  golden.rows.forEach((tokens, index) => {
    const { logits, logProbabilities } = scores[index] ?? {};
    assert.ok(logits && logProbabilities);
    assertClose(logits, tensorOf(expected, `logits.${index}`), tolerance, `logits of row ${index} (${tokens.length} tokens)`);
    assertClose(logProbabilities, golden.logProbabilities[index] ?? [], tolerance, `log-probabilities of row ${index}`);
  });
};

const checkGreedy = async (engine: Engine, golden: Golden): Promise<void> => {
  const requests = golden.greedy.map(({ prompt }) => ({ tokens: prompt, seed: 0 }));
  const samples = await engine.sample(requests, { maximumTokens: 24, temperature: 0, topP: 1, endTokens: [] });
  golden.greedy.forEach(({ tokens, margins, logProbabilities }, index) => {
    const nearTie = margins.findIndex((margin) => margin < swapMargin);
    const compared = nearTie === -1 ? tokens.length : nearTie;
    assert.ok(compared >= 20, `the golden answer ${index} has a near-tie at ${nearTie}: choose other prompts`);
    assert.deepEqual(samples[index]?.tokens.slice(0, compared), tokens.slice(0, compared));
    assertClose(
      samples[index]?.logProbabilities.slice(0, compared) ?? [],
      logProbabilities.slice(0, compared),
      tolerance,
      'log-probabilities',
    );
  });
};

const checkInnerValues = async (engine: Engine, golden: Golden, fileName: string): Promise<void> => {
  const expected = await goldenTensors(fileName);
  const names = Object.keys(expected).filter((name) => !name.startsWith('logits'));
  const [score] = await engine.score([{ tokens: golden.rows[golden.innerValuesOfRow] ?? [], taps: names }]);
  for (const name of names) {
    const tapped = score?.taps?.[name];
    assert.ok(tapped, `no tap ${name}`);
    assert.deepEqual(tapped.shape, expected[name]?.shape, name);
    assertClose(tapped.data, tensorOf(expected, name), tolerance, name);
  }
};

const models = [
  { name: 'tiny-llama', golden: tied, what: 'tied embeddings, grouped queries, llama3 RoPE scaling' },
  { name: 'tiny-llama-untied', golden: untied, what: 'a head of its own, one key head' },
];

for (const { name, golden, what } of models) {
  describe(`${name} equals transformers (${what})`, () => {
    it('in logits and log-probabilities', () =>
      withEngine(goldenPath(name), (engine) => checkLogits(engine, golden, `${name}.safetensors`)));

    it('in logits with config.json in the old spelling', async () => {
      const folder = await folderInOldSpelling(name);
      try {
        await withEngine(folder, (engine) => checkLogits(engine, golden, `${name}.safetensors`));
      } finally {
        await rm(folder, { recursive: true });
      }
    });

    it('in greedy answers and their log-probabilities', () => withEngine(goldenPath(name), (engine) => checkGreedy(engine, golden)));

    it('in hidden states and attention maps', () =>
      withEngine(goldenPath(name), (engine) => checkInnerValues(engine, golden, `${name}.safetensors`)));
  });
}
