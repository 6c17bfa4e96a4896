import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import type { Clock } from '../src/base/clock.ts';
import { randomFrom } from '../src/base/random.ts';
import { strategies } from '../src/priming/strategies.ts';
import { CollectionStoppedError, type CollectOptions, collect } from '../src/responses/collect.ts';
import { rateLimiter } from '../src/responses/rate-limiter.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { type Budget, costUsd, type Prices } from '../src/responses/spending.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { fakeTeacher } from '../src/teachers/fake.ts';
import type { TeacherRequest, Usage } from '../src/teachers/teacher.ts';
import { TeacherError } from '../src/teachers/teacher-error.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-budget-'));
after(() => rm(root, { recursive: true, force: true }));
let folderCount = 0;

const examples = Array.from({ length: 20 }, (_, index) => ({
  id: `train/${index}`,
  question: `What is ${index} + 1?`,
  solution: `#### ${index + 1}`,
  gold: String(index + 1),
}));

const prices: Prices = { inputPerMillion: 100, outputPerMillion: 400, cachedInputPerMillion: 10 };

const options = (change: Partial<CollectOptions>): CollectOptions => ({
  examples,
  task: { ...gsm8k, instruction: '' },
  strategy: strategies['none'] ?? assert.fail(),
  teacher: fakeTeacher(),
  sampling: { maximumTokens: 50, temperature: 0, topP: 1, seed: 1 },
  folder: join(root, `store-${folderCount++}`),
  clock: hurriedClock(),
  ...change,
});

function hurriedClock(): Clock {
  let nowMs = 0;
  return {
    now: () => nowMs,
    sleep: async (durationMs, signal) => {
      const wakeMs = nowMs + durationMs;
      if (durationMs === 20_000) return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('awake'))));
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      nowMs = Math.max(nowMs, wakeMs);
    },
  };
}

/** A provider that bills what it answers, at times also what it then fails to deliver, and that counts it. */
const billingTeacher = (seed: number, concurrency: number) => {
  const billed = { usd: 0, tokens: 0, requests: 0 };
  const bill = (usage: Usage): Usage => {
    billed.usd += costUsd(usage, prices);
    billed.tokens += usage.promptTokens + usage.completionTokens;
    return usage;
  };
  const answer = ({ messages, sampling, exampleId }: TeacherRequest, attempt: number) => {
    const random = randomFrom(seed, exampleId, attempt);
    billed.requests++;
    const promptTokens = Math.ceil((messages[0]?.content.length ?? 0) / 2);
    const cachedPromptTokens = random.integer(promptTokens);
    const usage = { promptTokens, cachedPromptTokens, completionTokens: 1 + random.integer(sampling.maximumTokens) };
    const fate = random.uniform();
    if (fate < 0.1) return new TeacherError('slow down', { retry: 'pause', retryAfterMs: 10 }, { status: 429 });
    if (fate < 0.2) return new TeacherError('error', { retry: 'later' }, { status: 500 });
    if (fate < 0.3) {
      bill(usage);
      return new TeacherError('reset after billing', { retry: 'later' });
    }
    if (fate < 0.4) return new TeacherError('empty answer', { retry: 'later' }, { status: 200, usage: bill(usage) });
    bill(usage);
    return fate < 0.5 ? { text: 'not counted', finishReason: 'stop' as const } : { text: 'x', finishReason: 'stop' as const, usage };
  };
  return { teacher: fakeTeacher({ answer, concurrency, latencyMs: 1 }), billed };
};

describe('a budget', () => {
  it('holds for whatever was billed, under any concurrency, faults and number of runs', async () => {
    const budgets = fc.oneof(
      fc.record({ usd: fc.double({ min: 0, max: 0.3, noNaN: true }) }),
      fc.record({ tokens: fc.integer({ min: 0, max: 1500 }) }),
      fc.record({ requests: fc.integer({ min: 0, max: 30 }) }),
      fc.record({
        usd: fc.double({ min: 0, max: 0.3, noNaN: true }),
        tokens: fc.integer({ min: 0, max: 1500 }),
        requests: fc.integer({ min: 0, max: 30 }),
      }),
    );
    await fc.assert(
      fc.asyncProperty(budgets, fc.integer({ min: 1, max: 16 }), fc.integer(), async (budget: Budget, concurrency, seed) => {
        const { teacher, billed } = billingTeacher(seed, concurrency);
        const first = options({ teacher, budget, prices });
        for (let run = 0; run < 2; run++) {
          await collect(first).catch((thrown: unknown) =>
            assert.ok(thrown instanceof CollectionStoppedError || thrown instanceof TeacherError, String(thrown)),
          );
          for (const name of ['usd', 'tokens', 'requests'] as const)
            assert.ok(billed[name] <= (budget[name] ?? Number.POSITIVE_INFINITY) + 1e-9, `${name}: ${billed[name]} of ${budget[name]}`);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('counts in full what may have been billed and was not reported', async () => {
    let billedTokens = 0;
    const answer = ({ messages, sampling, exampleId }: TeacherRequest) => {
      billedTokens += Math.ceil((messages[0]?.content.length ?? 0) / 2) + sampling.maximumTokens;
      return exampleId === 'train/0'
        ? { text: 'not counted', finishReason: 'stop' as const }
        : new TeacherError('broken off', { retry: 'later' });
    };
    const first = options({ teacher: fakeTeacher({ answer, concurrency: 3 }), budget: { tokens: 1000 } });
    await assert.rejects(collect(first), CollectionStoppedError);
    assert.ok(billedTokens > 500 && billedTokens <= 1000, `${billedTokens}`);
    await assert.rejects(collect(first), CollectionStoppedError);
    assert.ok(billedTokens <= 1000, `${billedTokens}, started again`);
  });

  it('is used up as far as whole answers go, says so, and can be raised', async () => {
    // 10 tokens of prompt and 6 of answer: the last answers are asked for one by one, when room for 50 is still there.
    const usage = { promptTokens: 8, completionTokens: 6 };
    const teacher = fakeTeacher({ answer: () => ({ text: 'x', finishReason: 'stop', usage }), concurrency: 8 });
    const first = options({ teacher, budget: { tokens: 200 } });
    const stopped = await collect(first).catch((thrown: unknown) => thrown);
    assert.ok(stopped instanceof CollectionStoppedError);
    assert.match(
      stopped.message,
      /The budget of 200 tokens does not reach for another answer: (\d+) tokens are spent\. Raise budget\.tokens to go on\. Stopped with \d+ of 20 answers/,
    );
    const { doneCount } = stopped.report;
    // A full answer is at most 8 · 1.25 + 8 tokens of prompt and 50 of answer: so much may stay unused, and no more than that.
    assert.ok(doneCount * 14 <= 200 && doneCount * 14 > 200 - 14 - (8 * 1.25 + 8 + 50) - 14, `${doneCount} answers`);
    const again = await collect(first).catch((thrown: unknown) => thrown);
    assert.ok(again instanceof CollectionStoppedError);
    assert.equal(again.report.newCount <= 1, true); // Earlier runs count.
    assert.equal((await collect({ ...first, budget: { tokens: 2000 } })).doneCount, 20);
    assert.equal(teacher.requests.length, 20);
  });

  it('in dollars counts cached tokens at their price, and wants prices', async () => {
    assert.equal(
      costUsd({ promptTokens: 1000, cachedPromptTokens: 400, completionTokens: 10 }, prices),
      (600 * 100 + 400 * 10 + 10 * 400) / 1e6,
    );
    assert.equal(
      costUsd({ promptTokens: 1000, cachedPromptTokens: 400, completionTokens: 10 }, { inputPerMillion: 100, outputPerMillion: 400 }),
      (1000 * 100 + 10 * 400) / 1e6,
    );
    await assert.rejects(collect(options({ budget: { usd: 1 } })), /budget\.usd: the prices of this teacher are not known/);
    const first = options({ prices, budget: { usd: 1 } });
    await collect(first);
    const [response] = await readResponses(first.folder);
    assert.equal(response?.costUsd, costUsd(response?.usage ?? assert.fail(), prices));
  });

  it('is not touched by answers that are judged anew', async () => {
    const teacher = fakeTeacher({ answer: () => ({ text: 'x', finishReason: 'length', usage: { promptTokens: 5, completionTokens: 5 } }) });
    const first = options({ teacher, budget: { requests: 21 } });
    await collect(first);
    await collect({ ...first, accept: ['length'] });
    await collect(first);
    const one = { ...first, examples: [...examples, { id: 'train/new', question: 'What is new?', solution: '#### 1', gold: '1' }] };
    assert.equal((await collect(one)).doneCount, 21); // 20 requests are spent, not 60: there is room for one more.
  });
});

describe('limits', () => {
  /** Sends as fast as allowed, with answers of another size than assumed, and returns when each was sent and what it took. */
  const simulate = async (limits: { requestsPerMinute?: number; tokensPerMinute?: number }, seed: number, count = 400) => {
    let nowMs = 0;
    const clock: Clock = { now: () => nowMs, sleep: async (durationMs) => void (nowMs += durationMs) };
    const limiter = rateLimiter(limits, clock);
    const random = randomFrom(seed);
    const sent: { atMs: number; tokens: number }[] = [];
    const signal = new AbortController().signal;
    for (let index = 0; index < count; index++) {
      const assumed = 50 + random.integer(100);
      await limiter.enter(assumed, signal);
      const tokens = 1 + random.integer(assumed);
      sent.push({ atMs: nowMs, tokens: assumed });
      limiter.correct(assumed, tokens);
      sent[sent.length - 1] = { atMs: nowMs, tokens };
      nowMs += random.integer(3) === 0 ? random.integer(2000) : 0;
    }
    return sent;
  };

  const mostInAMinute = (sent: readonly { atMs: number; tokens: number }[], size: (item: { tokens: number }) => number): number =>
    Math.max(
      ...sent.map(({ atMs }) =>
        sent.filter((other) => other.atMs >= atMs && other.atMs < atMs + 60_000).reduce((sum, item) => sum + size(item), 0),
      ),
    );

  it('hold in every sixty seconds', async () => {
    for (let seed = 0; seed < 5; seed++) {
      assert.ok(mostInAMinute(await simulate({ requestsPerMinute: 30 }, seed), () => 1) <= 30);
      // The last request of a minute may be larger than what was left: by one answer of at most 150 tokens.
      assert.ok(mostInAMinute(await simulate({ tokensPerMinute: 3000 }, seed), ({ tokens }) => tokens) <= 3000 + 150);
    }
  });

  it('are used: not far below what is allowed', async () => {
    const sent = await simulate({ requestsPerMinute: 30 }, 1);
    assert.ok((sent.at(-1)?.atMs ?? 0) <= (400 / 30) * 60_000 * 1.05);
  });

  it('of a provider lower the configured ones, and never raise them', async () => {
    const limiter = rateLimiter({ requestsPerMinute: 100 }, hurriedClock());
    limiter.observe({ requestsPerMinute: 60, tokensPerMinute: 9000 });
    assert.deepEqual(limiter.limits(), { requestsPerMinute: 60, tokensPerMinute: 9000 });
    limiter.observe({ requestsPerMinute: 5000 });
    assert.deepEqual(limiter.limits(), { requestsPerMinute: 60, tokensPerMinute: 9000 });
  });

  it('slow a whole collection down', async () => {
    const clock = hurriedClock();
    const report = await collect(options({ clock, limits: { requestsPerMinute: 10 }, teacher: fakeTeacher({ concurrency: 20 }) }));
    // 20 requests at 10 a minute: the twentieth goes 19 spacings of 6.1 s, less the second of burst, after the first.
    assert.ok(report.durationMs >= 19 * 6100 - 1000, `${report.durationMs} ms`);
  });
});
