import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readJsonLines } from '../src/base/json-lines.ts';
import { randomFrom } from '../src/base/random.ts';
import { parseResponse, type Response } from '../src/responses/response.ts';
import { readResponses, responsesFile } from '../src/responses/response-store.ts';
import { type Fault, type FaultServer, startFaultServer } from '../src/teachers/fault-server.ts';
import type { ChildOptions } from './collect-child.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-kill-'));
after(() => rm(root, { recursive: true, force: true }));

const childFile = join(import.meta.dirname, 'collect-child.ts');

const startChild = (options: ChildOptions, environment: NodeJS.ProcessEnv = {}) => {
  const child = spawn(process.execPath, [childFile, JSON.stringify(options)], { env: { ...process.env, ...environment } });
  let output = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    output += data;
  });
  return { child, output: () => output };
};

const finish = async (options: ChildOptions): Promise<void> => {
  const { child, output } = startChild(options);
  const [code] = await once(child, 'exit');
  assert.equal(code, 0, output());
};

/** Questions whose answers are on the disk, as the next run will see them. */
const persisted = async (folder: string): Promise<Set<string>> => {
  const questions = new Set<string>();
  try {
    for await (const { value } of readJsonLines(responsesFile(folder))) questions.add(parseResponse(value, 'store').exampleId);
  } catch (thrown) {
    if (!/No file/.test(String(thrown))) throw thrown;
  }
  return questions;
};

/** The id of the question in a request. */
const idOf = ({ messages }: { readonly messages: readonly { readonly content: string }[] }): string =>
  `train/${/What is (\d+) \+ 1/.exec(messages[0]?.content ?? '')?.[1]}`;

/** What must be equal however often the collector was killed. */
const essence = ({ latencyMs: _, collectedAt: __, tryCount: ___, wastedUsage: ____, ...response }: Response) => response;

const settled = async (server: FaultServer): Promise<void> => {
  while (server.underWayCount() > 0) await sleep(5);
};

/** As many kills as RETORT_KILLS says; a few where it says nothing. */
const killCount = Number(process.env['RETORT_KILLS'] ?? 5);

describe(`a collector killed ${killCount} times at random moments`, () => {
  it('has in the end what an undisturbed one has, and bought again only what was under way', {
    timeout: 60_000 + killCount * 5000,
  }, async (test) => {
    const count = 30 * killCount;
    const [server, calmServer] = [await startFaultServer({ latencyMs: 15 }), await startFaultServer({ latencyMs: 1 })];
    try {
      const options = { folder: join(root, 'killed'), count, concurrency: 4, baseUrl: server.baseUrl };
      const random = randomFrom(Number(process.env['RETORT_SEED'] ?? 1), 'kills');
      let lostCount = 0;
      for (let kill = 0; kill < killCount; kill++) {
        const { child, output } = startChild(options);
        const servedBefore = server.served.length;
        const goal = servedBefore + 1 + random.integer(25);
        while (server.served.length < goal && child.exitCode === null) await sleep(1);
        await sleep(random.uniform() * 20); // Anywhere between two answers, and in the middle of a write.
        assert.equal(child.exitCode, null, output());
        child.kill('SIGKILL');
        const [, signal] = await once(child, 'exit');
        assert.equal(signal, 'SIGKILL');
        await settled(server);
        const kept = await persisted(options.folder);
        assert.ok(kept.size < count, 'nothing was left to do');
        const lost = server.served.slice(servedBefore).filter((request) => !kept.has(idOf(request)));
        assert.ok(lost.length <= options.concurrency, `${lost.length} requests were under way`);
        lostCount += lost.length;
      }
      test.diagnostic(`${killCount} kills of the collector, each with work under way`);
      await finish(options);
      const calm = { ...options, folder: join(root, 'calm'), baseUrl: calmServer.baseUrl };
      await finish(calm);
      const responses = await readResponses(options.folder);
      assert.equal(responses.length, count);
      assert.deepEqual(responses.map(essence), (await readResponses(calm.folder)).map(essence));
      assert.equal(calmServer.billedCount(), count);
      assert.equal(server.billed.size, count);
      assert.equal(server.billedCount(), count + lostCount);
    } finally {
      await server.close();
      await calmServer.close();
    }
  });
});

describe('a provider where a third of all requests goes wrong', () => {
  it('gives every answer in the end, and none is bought twice but where the fault came after billing', { timeout: 60_000 }, async () => {
    const share = 0.03;
    const names: Fault[] = [
      'rate-limited',
      'server-error',
      'overloaded',
      'reset-before-billing',
      'reset-after-billing',
      'empty-body',
      'empty-answer',
      'half-json',
      'garbage',
      'web-page',
      'stall',
    ];
    const server = await startFaultServer({
      seed: 4,
      latencyMs: 2,
      retryAfterSeconds: 0.02,
      faults: Object.fromEntries(names.map((name) => [name, share])),
    });
    try {
      // a time-out that a busy machine does not reach by itself: an answer that came too late was paid for too
      const options = { folder: join(root, 'faults'), count: 150, concurrency: 16, baseUrl: server.baseUrl, timeoutMs: 4_000 };
      await finish(options);
      assert.equal((await readResponses(options.folder)).length, 150);
      const faultyBills = server.served.filter(({ isBilled, fault }) => isBilled && fault !== undefined).length;
      assert.equal(server.billedCount(), 150 + faultyBills);
      const seen = new Set(server.served.map(({ fault }) => fault));
      for (const name of names) assert.ok(seen.has(name), `the schedule has no ${name}`);
    } finally {
      await server.close();
    }
  });
});

describe('a full disk', () => {
  it('ends the run with a clear word, and loses nothing that was there', {
    skip: process.platform === 'win32' && 'no limit on file sizes there',
    timeout: 60_000,
  }, async () => {
    const server = await startFaultServer();
    try {
      const options: ChildOptions = { folder: join(root, 'full'), count: 60, concurrency: 4, baseUrl: server.baseUrl };
      // `ulimit -f` counts blocks of 512 or 1024 bytes: room for a part of the answers either way.
      const command = `ulimit -f 16; exec "$0" "$@"`;
      const child = spawn('sh', ['-c', command, process.execPath, childFile, JSON.stringify(options)]);
      let output = '';
      child.stderr.on('data', (data) => {
        output += data;
      });
      child.stdout.resume();
      const [code] = await once(child, 'exit');
      assert.equal(code, 1);
      assert.match(output, /DiskFullError: No room left to write .*responses\.jsonl.*make room and run the same command again/);
      const before = await persisted(options.folder);
      assert.ok(before.size > 5 && before.size < 60, `${before.size} answers`);
      assert.ok((await readFile(responsesFile(options.folder), 'utf8')).endsWith('}\n'));
      const billedBefore = server.billedCount();
      await finish(options);
      assert.equal((await readResponses(options.folder)).length, 60);
      assert.equal(server.billedCount() - billedBefore, 60 - before.size);
    } finally {
      await server.close();
    }
  });
});

describe('a key', () => {
  const key = 'sk-secret-0123456789abcdef-ZYXWVUT';

  const faultsThatEnd: (Fault | undefined)[] = ['bad-request', 'forbidden', 'not-found'];
  const faultsThatPass: Fault[] = [
    'rate-limited',
    'server-error',
    'overloaded',
    'reset-after-billing',
    'empty-body',
    'empty-answer',
    'half-json',
    'garbage',
    'web-page',
    'stall',
    'length',
    'content-filter',
    'too-long',
  ];

  it('stands in no file and in no line printed, whatever goes wrong, even before a server that quotes it', {
    timeout: 120_000,
  }, async () => {
    const printed: string[] = [];
    const folder = join(root, 'secret');
    const runWith = async (name: string, serverOptions: Parameters<typeof startFaultServer>[0]): Promise<void> => {
      const server = await startFaultServer({ echoesKey: true, retryAfterSeconds: 0.01, ...serverOptions });
      try {
        const options = { folder: join(folder, name), count: 26, concurrency: 13, baseUrl: server.baseUrl, timeoutMs: 300 };
        const { child, output } = startChild(options, { RETORT_TEST_KEY: key });
        await once(child, 'exit');
        printed.push(output());
        assert.ok(server.served.length > 0 || name === 'wrong-key', name);
      } finally {
        await server.close();
      }
    };
    const nth = (id: string): number => Number(id.slice(6));
    await runWith('passing', {
      key,
      faults: (request, attempt) => (attempt === 0 ? faultsThatPass[nth(idOf(request)) % faultsThatPass.length] : undefined),
      answer: () => `You sent Bearer ${key}\n#### 1`,
    });
    await Promise.all(faultsThatEnd.map((fault) => runWith(fault ?? '', { key, faults: () => fault })));
    await runWith('wrong-key', { key: 'another' });
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    assert.ok(files.length >= 5);
    const written = await Promise.all(files.map((entry) => readFile(join(entry.parentPath, entry.name), 'utf8')));
    for (const text of [...printed, ...written])
      for (const form of [key, key.slice(0, 14), key.slice(-12), Buffer.from(key).toString('base64')])
        assert.ok(!text.includes(form), text.slice(Math.max(0, text.indexOf(form) - 200)).slice(0, 400));
    // The runs went as meant: the quoting errors and answers are there, without the key.
    assert.ok(written.some((text) => text.includes('You sent Bearer [redacted]')));
    assert.ok(printed.some((text) => /answered 403/.test(text)) && printed.some((text) => /answered 401/.test(text)));
    assert.ok(files.every((entry) => !entry.name.includes('sk-')));
  });
});
