import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { randomFrom, shuffled } from '../src/base/random.ts';
import { strategies } from '../src/priming/strategies.ts';
import { type BatchOptions, readBatchFile, writeBatchFiles } from '../src/responses/batch-file.ts';
import { collect } from '../src/responses/collect.ts';
import type { Response } from '../src/responses/response.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { startFaultServer } from '../src/teachers/fault-server.ts';
import { openAiCompatibleProfile, openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-batch-'));
after(() => rm(root, { recursive: true, force: true }));

const examples = Array.from({ length: 10 }, (_, index) => ({
  id: `train/${index}`,
  question: `What is ${index} + 1?`,
  solution: `#### ${index + 1}`,
  gold: String(index + 1),
}));

interface RequestLine {
  readonly custom_id: string;
  readonly method: string;
  readonly url: string;
  readonly body: Record<string, unknown>;
}

const profile = openAiCompatibleProfile({ baseUrl: 'http://localhost:1/v1', model: 'big' });

const options = (folder: string): BatchOptions => ({
  examples,
  task: gsm8k,
  strategy: strategies['teacher'] ?? assert.fail(),
  teacher: { identity: profile.identity },
  sampling: { maximumTokens: 64, temperature: 0.5, topP: 0.9, seed: 3 },
  folder: join(root, folder),
});

const linesOf = async (file: string): Promise<RequestLine[]> =>
  (await readFile(file, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as RequestLine);

/** Answers the lines by a server as the requests they are, and writes the output as OpenAI and vLLM do. */
const answerLines = async (lines: readonly RequestLine[], baseUrl: string): Promise<string[]> =>
  Promise.all(
    lines.map(async ({ custom_id, url, body }, index) => {
      const response = await fetch(new URL(url, baseUrl), { method: 'POST', body: JSON.stringify(body) });
      return JSON.stringify({
        id: `batch_req_${index}`,
        custom_id,
        response: { status_code: response.status, request_id: 'r', body: await response.json() },
        error: null,
      });
    }),
  );

const essence = ({ latencyMs: _, collectedAt: __, ...response }: Response) => response;

describe('batch files', () => {
  it('bring the same answers, under the same keys, as asking the server, in whatever order they come back', async () => {
    const server = await startFaultServer();
    const teacher = openAiCompatibleTeacher({ baseUrl: server.baseUrl, model: 'big', environment: {} });
    try {
      const batched = options('batched');
      const { files, requestCount } = await writeBatchFiles(join(root, 'in.jsonl'), profile.batchFormat, [batched]);
      assert.deepEqual([files.map((file) => basename(file)), requestCount], [['in.jsonl'], 10]);
      const lines = await linesOf(files[0] ?? assert.fail());
      assert.deepEqual([lines[0]?.method, lines[0]?.url], ['POST', '/v1/chat/completions']);
      assert.ok(lines.every(({ custom_id }) => /^[0-9a-f]{64}$/.test(custom_id))); // Anthropic takes 64 characters, OpenAI 512.
      const output = join(root, 'out.jsonl');
      await writeFile(output, shuffled(await answerLines(lines, server.baseUrl), randomFrom(1)).join('\n'));
      assert.deepEqual(await readBatchFile(output, profile.batchFormat, [batched]), {
        newCount: 10,
        knownCount: 0,
        failures: {},
        strangeCount: 0,
        openCount: 0,
      });

      const asked = { ...options('asked'), teacher };
      await collect(asked);
      assert.deepEqual((await readResponses(batched.folder)).map(essence), (await readResponses(asked.folder)).map(essence));
      assert.equal(server.billed.size, 10); // Word for word the same requests.
      // The one goes on from the other.
      assert.equal((await collect({ ...asked, folder: batched.folder })).newCount, 0);
      if (process.platform !== 'win32') assert.equal((await stat(files[0] ?? '')).mode & 0o777, 0o600);
    } finally {
      await teacher.release();
      await server.close();
    }
  });

  it('leave open what was not answered, and the next file asks for that alone', async () => {
    const batched = options('partly');
    const { files } = await writeBatchFiles(join(root, 'partly.jsonl'), profile.batchFormat, [batched]);
    const lines = await linesOf(files[0] ?? assert.fail());
    const server = await startFaultServer({
      faults: ({ messages }) => (/What is 4 /.test(messages[0]?.content ?? '') ? 'length' : undefined),
    });
    const good = await answerLines(lines, server.baseUrl);
    await server.close();
    const idAt = (index: number): string => lines[index]?.custom_id ?? '';
    const output = [
      ...good.slice(0, 5),
      JSON.stringify({
        custom_id: idAt(5),
        response: { status_code: 500, body: { error: { message: 'The server had an error.' } } },
        error: null,
      }),
      JSON.stringify({
        custom_id: idAt(6),
        response: null,
        error: { code: 'batch_expired', message: 'This request could not be executed before the completion window expired.' },
      }),
      JSON.stringify({
        custom_id: idAt(7),
        response: { status_code: 400, body: { error: { message: 'maximum context length is 8', code: 'context_length_exceeded' } } },
        error: null,
      }),
      JSON.stringify({ custom_id: 'somebody else', response: null, error: null }),
      '{"custom_id": "torn',
    ];
    const file = join(root, 'partly-out.jsonl');
    await writeFile(file, output.join('\n'));
    const read = await readBatchFile(file, profile.batchFormat, [batched]);
    assert.deepEqual([read.newCount, read.strangeCount, read.openCount], [6, 1, 4]);
    const reasons = Object.keys(read.failures);
    assert.equal(reasons.length, 2);
    assert.ok(
      reasons.some((reason) => /answered 500: The server had an error/.test(reason)) &&
        reasons.some((reason) => /completion window expired/.test(reason)),
    );
    const failed = await readResponses(batched.folder, { statuses: ['failed'] });
    assert.deepEqual(
      failed.map(({ exampleId, reason }) => [exampleId, reason]),
      [
        ['train/4', 'truncated'],
        ['train/7', 'refused'],
      ],
    );
    assert.equal((await readBatchFile(file, profile.batchFormat, [batched])).knownCount, 6); // Read twice, kept once.
    const next = await writeBatchFiles(join(root, 'next.jsonl'), profile.batchFormat, [batched]);
    assert.deepEqual(
      (await linesOf(next.files[0] ?? '')).map(({ custom_id }) => custom_id),
      [idAt(5), idAt(6), idAt(8), idAt(9)],
    );
  });

  it('are split at the provider’s limits on lines and bytes', async () => {
    const counts = async (name: string, limits: { requestCount: number; sizeBytes: number }) => {
      const { files } = await writeBatchFiles(join(root, `${name}.jsonl`), profile.batchFormat, [options(name)], limits);
      const parts = await Promise.all(files.map(linesOf));
      assert.equal(new Set(parts.flat().map(({ custom_id }) => custom_id)).size, 10);
      for (const file of files) assert.ok((await stat(file)).size <= Math.max(limits.sizeBytes, 1200));
      return { names: files.map((file) => basename(file)), counts: parts.map((part) => part.length) };
    };
    assert.deepEqual(await counts('lines', { requestCount: 4, sizeBytes: 1e9 }), {
      names: ['lines-1.jsonl', 'lines-2.jsonl', 'lines-3.jsonl'],
      counts: [4, 4, 2],
    });
    const byBytes = await counts('bytes', { requestCount: 100, sizeBytes: 2000 });
    assert.ok(byBytes.counts.length > 1 && byBytes.counts.every((count) => count >= 1));
  });

  it('are none when there is nothing left to ask', async () => {
    const batched = { ...options('nothing'), examples: [] };
    assert.deepEqual(await writeBatchFiles(join(root, 'nothing.jsonl'), profile.batchFormat, [batched]), { files: [], requestCount: 0 });
  });
});
