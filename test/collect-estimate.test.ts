import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import { strategies } from '../src/priming/strategies.ts';
import { type CollectOptions, collect } from '../src/responses/collect.ts';
import { planCollection } from '../src/responses/collection-plan.ts';
import { estimateCollection, estimateText } from '../src/responses/estimate.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { costUsd } from '../src/responses/spending.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { fakeTeacher } from '../src/teachers/fake.ts';
import { listedPrices } from '../src/teachers/prices.ts';
import type { TeacherRequest } from '../src/teachers/teacher.ts';
import { termsFor } from '../src/teachers/terms.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-estimate-'));
after(() => rm(root, { recursive: true, force: true }));

const prices = { inputPerMillion: 3, outputPerMillion: 15 };

/** Questions of 10 to 60 words; a teacher that counts a token for 4.5 characters or so and answers at very different lengths. */
const setUp = (seed: number, count: number) => {
  const random = randomFrom(seed, 'questions');
  const examples = Array.from({ length: count }, (_, index) => ({
    id: `train/${index}`,
    question: Array.from({ length: 10 + random.integer(50) }, () => 'x'.repeat(2 + random.integer(7))).join(' '),
    solution: '#### 1',
    gold: '1',
  }));
  const teacher = fakeTeacher({
    concurrency: 16,
    answer: ({ messages, exampleId }: TeacherRequest) => {
      const own = randomFrom(seed, 'answer', exampleId);
      const promptTokens = Math.round((messages[0]?.content.length ?? 0) / (4 + own.uniform())) + 5;
      return { text: 'x', finishReason: 'stop', usage: { promptTokens, completionTokens: Math.round(40 * Math.exp(own.normal() * 0.6)) } };
    },
  });
  const strategy = strategies['none'] ?? assert.fail();
  const options: CollectOptions = {
    examples,
    task: gsm8k,
    strategy,
    teacher,
    sampling: { maximumTokens: 512, temperature: 0, topP: 1, seed: 1 },
    folder: join(root, `store-${seed}`),
  };
  return options;
};

describe('an estimate', () => {
  it('holds the real cost about 19 times in 20, and is no wider than it must be', async () => {
    let heldCount = 0;
    const runCount = 10;
    for (let seed = 0; seed < runCount; seed++) {
      const options = setUp(seed, 150);
      const planned = planCollection(options);
      const sampled = planned.slice(0, 20);
      const first = await collect({ ...options, examples: options.examples.slice(0, 20) });
      const sample = await readResponses(options.folder, { keys: first.keys });
      const rest = planned.slice(20);
      const estimate = estimateCollection({ planned: rest, sample, sampled, prices, concurrency: 16 });
      assert.deepEqual([estimate.answerCount, estimate.sampleCount], [130, 20]);
      const report = await collect(options); // Asks for the other 130 only.
      assert.equal(report.newCount, 130);
      const cost = costUsd(report.usage ?? assert.fail(), prices);
      const { low, high } = estimate.usd ?? assert.fail();
      heldCount += Number(cost >= low && cost <= high);
      assert.ok(high / low < 5, `${low} to ${high}`);
    }
    // Binomial(10, 0.95): fewer than 8 happens once in 90 times; the seeds are fixed.
    assert.ok(heldCount >= 8, `${heldCount} of ${runCount}`);
  });

  it('without a sample gives bounds, and says so', () => {
    const planned = planCollection(setUp(100, 10));
    const bytes = planned.reduce((sum, item) => sum + Buffer.byteLength(item.messages()[0]?.content ?? ''), 0);
    const estimate = estimateCollection({ planned, sample: [], sampled: [], prices, concurrency: 4 });
    assert.deepEqual(estimate.completionTokens, { low: 10, high: 5120 });
    assert.equal(estimate.promptTokens.high, bytes + 80);
    assert.match(estimateText(estimate), /^10 answers: about \$0\.\d+ to \$0\.\d+, .* \(bounds: nothing was measured yet\)$/);
  });

  it('counts the time that limits take', () => {
    const range = { low: 100_000, high: 110_000 };
    const text = estimateText(
      {
        answerCount: 1000,
        promptTokens: range,
        completionTokens: range,
        usd: { low: 3.1, high: 4.4 },
        durationMs: { low: 1_500_000, high: 1_500_000 },
        sampleCount: 12,
      },
      { requestsPerMinute: 60 },
    );
    assert.match(
      text,
      /^1,000 answers: about \$3\.10 to \$4\.40, .*25 minutes at 60 requests a minute \(measured on 12 answers, which are kept\)$/,
    );
  });
});

describe('list prices', () => {
  it('come with their source for a known model at its own provider, and not for its name elsewhere', async () => {
    const identity = { kind: 'openai-compatible', model: 'gpt-4o', provider: 'api.openai.com', location: 'https://api.openai.com/v1' };
    // OpenAI's published prices of gpt-4o: $2.50, $10.00 and $1.25 (cached) per million tokens.
    assert.deepEqual(
      { ...(await listedPrices(identity)), source: '' },
      { inputPerMillion: 2.5, outputPerMillion: 10, cachedInputPerMillion: 1.25, source: '' },
    );
    assert.match((await listedPrices(identity))?.source ?? '', /^@pydantic\/genai-prices \d+\.\d+\.\d+$/);
    assert.equal(await listedPrices({ ...identity, provider: 'models.example', location: 'https://models.example/v1' }), undefined);
    assert.equal(await listedPrices({ ...identity, model: 'no-such-model-1' }), undefined);
    assert.equal(await listedPrices({ kind: 'local', model: 'gpt-4o' }), undefined);
  });
});

describe('terms', () => {
  it('are known of some providers and models, and of nobody else', () => {
    const noteOf = (identity: { provider?: string; model: string }) => termsFor({ kind: 'x', ...identity }).join();
    assert.match(noteOf({ provider: 'api.openai.com', model: 'gpt-4o' }), /OpenAI/);
    assert.match(noteOf({ provider: 'anthropic.messages', model: 'claude' }), /Anthropic/);
    assert.match(noteOf({ provider: 'myresource.openai.azure.com', model: 'gpt-4o' }), /OpenAI/);
    assert.match(noteOf({ model: 'Llama-3.1-8B-Instruct' }), /Llama/);
    assert.equal(noteOf({ provider: 'models.example', model: 'smollm2' }), '');
    assert.equal(noteOf({ provider: 'openai.com.evil.example', model: 'x' }), '');
  });
});
