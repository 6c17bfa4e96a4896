import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomFrom } from '../src/base/random.ts';
import { strategies } from '../src/priming/strategies.ts';
import { batchJobsFile, readReserved } from '../src/responses/batch-jobs.ts';
import { CollectionStoppedError, type CollectOptions, collect } from '../src/responses/collect.ts';
import type { Response } from '../src/responses/response.ts';
import { readResponses, readSpending } from '../src/responses/response-store.ts';
import { costUsd, nothingSpent } from '../src/responses/spending.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { anthropicTeacher } from '../src/teachers/anthropic.ts';
import type { BatchingTeacher } from '../src/teachers/batches.ts';
import { type Fault, type FaultServer, type FaultServerOptions, startFaultServer } from '../src/teachers/fault-server.ts';
import { openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';
import { type ChildOptions, childExamples } from './collect-child.ts';

/** A provider's batches, OpenAI's and Anthropic's, against a server on this machine. */
const root = await mkdtemp(join(tmpdir(), 'retort-provider-batch-'));
after(() => rm(root, { recursive: true, force: true }));
let folderCount = 0;

const key = 'sk-secret-0123456789abcdef-ZYXWVUT';
const prices = { inputPerMillion: 3, outputPerMillion: 15 };

interface Setting {
  readonly server: FaultServer;
  readonly teacher: BatchingTeacher;
  readonly options: (change?: Partial<CollectOptions>) => CollectOptions;
}

const kinds = { openAi: openAiCompatibleTeacher, anthropic: anthropicTeacher } as const;
type Kind = keyof typeof kinds;

/** Starts a server and a teacher, runs, closes both. */
const within = async (kind: Kind, serverOptions: FaultServerOptions, run: (setting: Setting) => Promise<void>): Promise<void> => {
  const server = await startFaultServer({ key, ...serverOptions });
  const teacher = kinds[kind]({
    baseUrl: server.baseUrl,
    model: 'big',
    apiKeyVariable: 'TEST_KEY',
    environment: { TEST_KEY: key },
    timeoutMs: 2000,
  });
  const folder = join(root, `store-${folderCount++}`);
  const options = (change: Partial<CollectOptions> = {}): CollectOptions => ({
    examples: childExamples(12),
    task: gsm8k,
    strategy: strategies['teacher'] ?? assert.fail(),
    teacher,
    sampling: { maximumTokens: 64, temperature: 0.5, topP: 1, seed: 3 },
    folder,
    prices,
    batch: { pollMs: 2 },
    retries: { firstWaitMs: 1, longestWaitMs: 4, maximumTries: 20, maximumFirstTries: 20 },
    ...change,
  });
  try {
    await run({ server, teacher, options });
  } finally {
    await teacher.release();
    await server.close();
  }
};

const essence = ({ latencyMs: _, collectedAt: __, costUsd: ___, tryCount: ____, ...response }: Response) => response;

const openFiles = async (folder: string): Promise<string> => readFile(batchJobsFile(folder), 'utf8');

for (const kind of Object.keys(kinds) as Kind[]) {
  describe(`batches of ${kind}`, () => {
    it('bring the answers and keys that asking one by one brings, for half the price', () =>
      within(kind, { batches: { durationMs: 20 } }, async ({ server, options }) => {
        const report = await collect(options());
        assert.deepEqual([report.newCount, report.requestCount, server.batches.length, server.billedCount()], [12, 12, 1, 12]);
        const asked = options({ folder: join(root, `asked-${kind}`) });
        delete (asked as { batch?: unknown }).batch;
        await collect(asked);
        const [batched, single] = [await readResponses(report.folder), await readResponses(asked.folder)];
        assert.deepEqual(batched.map(essence), single.map(essence));
        assert.equal(server.billed.size, 12); // Word for word the same requests.
        const billed = server.billedUsage(); // Of both.
        const fullUsd = costUsd(billed, prices) / 2;
        assert.ok(Math.abs((await readSpending(report.folder)).usd - fullUsd / 2) < 1e-12);
        assert.ok(Math.abs((await readSpending(asked.folder)).usd - fullUsd) < 1e-12);
        assert.deepEqual(await readReserved(report.folder), nothingSpent);
        const card = JSON.parse(await readFile(join(report.folder, 'provenance.json'), 'utf8'));
        assert.equal(card.sources.teacher.prices.inputPerMillion, 1.5);
      }));

    it('survive everything that can go wrong with a call, and buy nothing twice', () => {
      const names: Fault[] = [
        ...(['rate-limited', 'server-error', 'overloaded', 'reset-before-billing', 'reset-after-billing'] as const),
        ...(['empty-body', 'half-json', 'garbage', 'web-page'] as const),
      ];
      const callFaults = Object.fromEntries(names.map((name) => [name, 0.05]));
      return within(kind, { seed: 5, retryAfterSeconds: 0.002, batches: { durationMs: 5, callFaults } }, async ({ server, options }) => {
        const examples = childExamples(60);
        const report = await collect(options({ examples, batch: { pollMs: 2, requestCount: 4 } }));
        assert.deepEqual([report.doneCount, report.keptCount], [60, 60]);
        assert.equal(server.billed.size, 60);
        assert.equal(server.billedCount(), 60);
        assert.equal(server.batches.length, 15);
      });
    });

    it('hand in again what a batch did not answer, keep what it refused, and give up after some rounds', () =>
      within(
        kind,
        {
          batches: {
            lineFaults: ({ messages }, attempt) => {
              const number = Number(/What is (\d+) \+/.exec(messages[0]?.content ?? '')?.[1]);
              if (attempt === 0 && number < 3) return (['expired', 'server-error', 'missing'] as const)[number];
              if (number === 3) return 'too-long';
              if (number === 4) return 'length';
              if (number === 5) return 'content-filter';
              return number === 6 ? 'server-error' : undefined;
            },
          },
        },
        async ({ server, options }) => {
          const report = await collect(options());
          assert.deepEqual(report.failures, { refused: 1, truncated: 1, 'content-filter': 1, unanswered: 1 });
          assert.equal(report.keptCount, 8);
          assert.deepEqual(
            server.batches.map(({ requestCount }) => requestCount),
            [12, 4, 1, 1],
          );
          const tries = await readResponses(report.folder, { statuses: ['kept', 'failed'] });
          assert.deepEqual(
            tries.slice(0, 7).map(({ exampleId, tryCount }) => [exampleId, tryCount]),
            [0, 1, 2, 3, 4, 5, 6].map((id) => [`train/${id}`, id < 3 ? 2 : id === 6 ? 4 : 1]),
          );
          // The next start asks for the unanswered one alone.
          await collect(options());
          assert.deepEqual(
            server.batches.slice(4).map(({ requestCount }) => requestCount),
            [1, 1, 1, 1],
          );
        },
      ));

    it('are split at the provider’s limits on requests and bytes', () =>
      within(kind, { batches: { limits: { requestCount: 5, sizeBytes: 4000 } } }, async ({ server, teacher, options }) => {
        const counts = async (limits: { requestCount: number; sizeBytes: number }, folder: string) => {
          const from = server.batches.length;
          const format = { ...teacher.batches.format, limits };
          await collect(options({ teacher: { ...teacher, batches: { ...teacher.batches, format } } as never, folder: join(root, folder) }));
          return server.batches.slice(from).map(({ requestCount }) => requestCount);
        };
        assert.deepEqual(await counts({ requestCount: 5, sizeBytes: 4000 }, `lines-${kind}`), [5, 5, 2]);
        const byBytes = await counts({ requestCount: 100, sizeBytes: 1000 }, `bytes-${kind}`);
        assert.ok(byBytes.length > 3 && byBytes.reduce((sum, count) => sum + count, 0) === 12);
      }));

    it('go on in another process: what was handed in is fetched, not bought again', () =>
      within(kind, { batches: { durationMs: 150 } }, async ({ server, options }) => {
        const stop = new AbortController();
        const running = collect(options({ signal: stop.signal }));
        while (server.batches.length === 0) await sleep(1);
        await sleep(20);
        stop.abort();
        await assert.rejects(running, (thrown) => {
          assert.ok(thrown instanceof CollectionStoppedError);
          assert.match(
            thrown.message,
            /Stopped with 0 of 12 answers.* 12 more are under way in batches, which go on at the provider\. Run/,
          );
          return true;
        });
        const { batch: _, ...alone } = options();
        await assert.rejects(collect(alone), /12 of 12 open questions are under way in batches, .* bought twice\. Set collection\.batch/);
        const reserved = await readReserved(options().folder);
        assert.ok(reserved.requests === 12 && reserved.tokens >= 12 * 64 && reserved.usd > 0);
        const report = await collect(options());
        assert.deepEqual([report.newCount, server.billedCount(), server.batches.length], [12, 12, 1]);
      }));

    it('keep answers of questions that the config of the moment does not have for the config that has them', () =>
      within(kind, { batches: {} }, async ({ server, options }) => {
        await collect(options({ batch: { waits: false, pollMs: 2 } }));
        await collect(options({ examples: childExamples(5) }));
        assert.equal((await readResponses(options().folder)).length, 5);
        await collect(options());
        assert.equal((await readResponses(options().folder)).length, 12);
        assert.equal(server.billedCount(), 12);
      }));

    it('hold a budget: what is under way counts in full, and what fits is handed in', () =>
      within(kind, {}, async ({ server, options }) => {
        const bounded = (requests: number) => options({ budget: { requests }, batch: { pollMs: 2, requestCount: 4 } });
        await assert.rejects(collect(bounded(6)), /6 requests are spent\. Raise budget\.requests to go on\. Stopped with 6 of 12/);
        assert.equal(server.billedCount(), 6);
        await collect(bounded(12));
        assert.equal(server.billedCount(), 12);
        // In dollars: a bound of a byte a token, then what was measured.
        const usd = options({ budget: { usd: 0.002 }, folder: join(root, `usd-${kind}`) });
        const stopped = await collect(usd).catch((thrown: unknown) => thrown);
        assert.ok(stopped instanceof CollectionStoppedError, String(stopped));
        const spent = await readSpending(usd.folder);
        assert.ok(spent.usd <= 0.002 && spent.requests > 3 && spent.requests < 12, JSON.stringify(spent));
      }));

    it('send the key to their own host alone, and write it nowhere', () =>
      within(
        kind,
        {
          echoesKey: true,
          answer: () => `You sent ${key}\n#### 1`,
          batches: { callFaults: (_, call) => (call === 0 ? 'server-error' : undefined) },
        },
        async ({ options }) => {
          const said: string[] = [];
          const report = await collect(options({ onProgress: (progress) => said.push(JSON.stringify(progress)) }));
          assert.equal(report.keptCount, 12);
          const files = await readdir(report.folder);
          const written = await Promise.all(files.map((file) => readFile(join(report.folder, file), 'utf8')));
          assert.ok(files.includes('batches.jsonl') && written.some((text) => text.includes('You sent [redacted]')));
          assert.ok(said.some((line) => /The server had an error\. You sent Bearer \[redacted\]/.test(line)));
          for (const text of [...said, ...written]) assert.ok(!text.includes(key) && !text.includes(key.slice(-12)), text.slice(0, 300));
        },
      ));
  });
}

describe('batches', () => {
  it('end with what the provider said, where it refuses one as a whole', () =>
    within('openAi', { batches: { jobs: () => 'invalid' } }, async ({ server, options }) => {
      await assert.rejects(
        collect(options()),
        /big at .* refused the batch batch_000000: This line is not parseable.* Stopped with 0 of 12/,
      );
      assert.deepEqual([server.batches.length, server.billedCount()], [1, 0]);
      assert.deepEqual(await readReserved(options().folder), nothingSpent);
    }));

  it('become smaller where the provider takes no more tokens at once', () =>
    within('openAi', { batches: { jobs: (_, count) => (count > 4 ? 'too-much' : undefined) } }, async ({ server, options }) => {
      const report = await collect(options());
      assert.equal(report.keptCount, 12);
      assert.deepEqual(
        server.batches.map(({ requestCount }) => requestCount),
        [12, 6, 6, 3, 3, 3, 3],
      );
      assert.equal(server.billedCount(), 12);
    }));

  it('stop at once for a wrong key, and for a teacher that takes none', () =>
    within('openAi', { key: 'another' }, async ({ options }) => {
      await assert.rejects(collect(options()), /answered 401: Incorrect API key provided: Bearer \[redacted\]/);
      assert.match(await openFiles(options().folder), /"planned".*\n.*"settled"/);
      const { identity, concurrency, generate, release } = options().teacher;
      await assert.rejects(collect(options({ teacher: { identity, concurrency, generate, release } })), /big takes no batches/);
    }));

  it('say what to do when the provider knows nothing of one', () =>
    within(
      'openAi',
      { batches: { durationMs: 60_000, callFaults: (route) => (route === 'GET /v1/batches/:id' ? 'not-found' : undefined) } },
      async ({ options }) => {
        await assert.rejects(collect(options()), /answered 404.*batches\.jsonl/s);
      },
    ));
});

/** As many kills as RETORT_KILLS says; a few where it says nothing. */
const killCount = Number(process.env['RETORT_KILLS'] ?? 4);

for (const kind of Object.keys(kinds) as Kind[]) {
  describe(`a collector in batches of ${kind}, killed ${killCount} times at random moments`, () => {
    it('has in the end what an undisturbed one has, and bought nothing twice', { timeout: 60_000 + killCount * 10_000 }, async (test) => {
      let count = 24 * killCount;
      const random = randomFrom(Number(process.env['RETORT_SEED'] ?? 1), 'kills', kind);
      const server = await startFaultServer({ batches: { durationMs: 40, callFaults: { 'reset-after-billing': 0.03 } } });
      const calm = await startFaultServer();
      try {
        const optionsFor = ({ baseUrl }: FaultServer, name: string): ChildOptions => ({
          ...{ folder: join(root, `${name}-${kind}`), count, concurrency: 4, baseUrl },
          batch: { kind, requestCount: 6 },
        });
        const { folder } = optionsFor(server, 'killed');
        for (let kill = 0; kill < killCount; ) {
          const child = spawn(process.execPath, [
            join(import.meta.dirname, 'collect-child.ts'),
            JSON.stringify(optionsFor(server, 'killed')),
          ]);
          const exited = once(child, 'exit');
          const goal = server.batchCallCount() + 1 + random.integer(24);
          while (server.batchCallCount() < goal && child.exitCode === null) await sleep(1);
          await sleep(random.uniform() * 6);
          child.kill('SIGKILL');
          const [, signal] = await exited;
          // Only a kill with work left counts; more questions come where there is none.
          if (signal === 'SIGKILL' && (await readResponses(folder)).length < count) kill++;
          else count += 24;
        }
        test.diagnostic(`${killCount} kills of batches of ${kind}, each with work under way`);
        await finish(optionsFor(server, 'killed'));
        await finish(optionsFor(calm, 'calm'));
        const [killed, undisturbed] = [await readResponses(folder), await readResponses(optionsFor(calm, 'calm').folder)];
        assert.equal(killed.length, count);
        assert.deepEqual(killed.map(essence), undisturbed.map(essence));
        assert.equal(server.billedCount(), count);
      } finally {
        await server.close();
        await calm.close();
      }
    });
  });
}

const finish = async (options: ChildOptions): Promise<void> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'collect-child.ts'), JSON.stringify(options)]);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      output += data;
    });
  const [code] = await once(child, 'exit');
  assert.equal(code, 0, output.slice(-3000));
};
