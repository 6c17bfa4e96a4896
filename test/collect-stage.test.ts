import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  collect,
  collectionFailures,
  estimateCollection,
  previewCollection,
  readCollectionBatch,
  writeCollectionBatch,
} from '../src/methods/stages.ts';
import { CollectionStoppedError } from '../src/responses/collect.ts';
import { type FaultServer, startFaultServer } from '../src/teachers/fault-server.ts';

/** `retort collect` with a teacher behind a URL, as functions: config, run folder, budget and what is said beforehand. */
const root = await mkdtemp(join(tmpdir(), 'retort-stage-'));
let server: FaultServer;
before(async () => {
  await mkdir(join(root, 'student'));
  server = await startFaultServer({
    faults: ({ messages }, attempt) => (attempt === 0 && /teacher/.test(messages[0]?.content ?? '') ? 'server-error' : undefined),
  });
});
after(async () => {
  await server.close();
  await rm(root, { recursive: true, force: true });
});

const configFile = async (name: string, collection: string, baseUrl = server.baseUrl): Promise<string> => {
  const file = join(root, `${name}.yaml`);
  const lines = [
    `name: ${name}`,
    'task: { name: word-problems, train: { limit: 20 } }',
    `teacher: { kind: openai-compatible, baseUrl: "${baseUrl}", model: big }`,
    'student: { model: ./student }',
    'arms: [none, confidence, gold]',
    `collection: ${collection}`,
  ];
  await writeFile(file, lines.join('\n'));
  return file;
};

describe('retort collect', () => {
  it('--dry-run shows the prompts of the arms that a teacher answers, and asks nobody', async () => {
    const previews = await previewCollection(await configFile('dry', '{}'), 2, { workingFolder: root });
    assert.deepEqual(
      previews.map(({ arm, prompts }) => [arm, prompts.length]),
      [
        ['none', 2],
        ['confidence', 2],
      ],
    );
    const [none, confidence] = previews.map(({ prompts }) => prompts[0]?.messages[0]?.content ?? '');
    assert.ok(confidence?.startsWith(none ?? '?') && confidence.length > (none?.length ?? 0));
    assert.equal(server.served.length, 0);
  });

  it('--estimate buys a few answers, which are kept, and reckons the rest as it then comes', async () => {
    const file = await configFile('estimated', '{ prices: { inputPerMillion: 3, outputPerMillion: 15 } }');
    const before = server.billedCount();
    const { arms, priceSource, asksTest } = await estimateCollection(file, 5, { workingFolder: root });
    assert.ok(asksTest);
    assert.equal(priceSource, 'the config');
    assert.equal(server.billedCount() - before, 10); // Five of each arm.
    assert.deepEqual(
      arms.map(({ arm, estimate }) => [arm, estimate.answerCount, estimate.sampleCount]),
      [
        ['none', 15, 5],
        ['confidence', 15, 5],
      ],
    );
    const { summary } = await collect(file, { workingFolder: root });
    assert.equal(server.billedCount() - before, 40); // Nothing was bought twice.
    assert.deepEqual(
      summary.collections.map(({ source, keptCount, failedCount }) => [source, keptCount, failedCount]),
      [
        ['none', 20, 0],
        ['confidence', 20, 0],
        ['gold', 20, 0],
      ],
    );
    assert.deepEqual(await collectionFailures(file, { workingFolder: root }), []);
  });

  it('stops at the budget of the whole run, and goes on when it is raised', async () => {
    const first = await configFile('bounded', '{ budget: { requests: 30 } }');
    const before = server.served.length;
    await assert.rejects(collect(first, { workingFolder: root }), (thrown) => {
      assert.ok(thrown instanceof CollectionStoppedError);
      assert.match(thrown.message, /30 requests are spent\. Raise budget\.requests to go on\. Stopped with 10 of 20 answers/);
      return true;
    });
    assert.equal(server.served.length - before, 30);
    const { summary } = await collect(await configFile('bounded', '{ budget: { requests: 40 } }'), { workingFolder: root });
    assert.deepEqual(
      summary.collections.map(({ keptCount }) => keptCount),
      [20, 20, 20],
    );
    assert.equal(server.served.length - before, 40);
  });

  it('hands in the batches of all arms before it waits for any, within one budget', async () => {
    const provider = await startFaultServer({ batches: { durationMs: 300 } });
    try {
      const file = await configFile('batched', '{ batch: { pollSeconds: 0.05 }, budget: { requests: 40 } }', provider.baseUrl);
      const running = collect(file, { workingFolder: root });
      while (provider.batches.length < 2) await sleep(5);
      assert.equal(provider.served.length, 40);
      const { summary } = await running;
      assert.deepEqual(
        summary.collections.map(({ keptCount }) => keptCount),
        [20, 20, 20],
      );
      const tight = await configFile('tight', '{ batch: { pollSeconds: 0.05 }, budget: { requests: 30 } }', provider.baseUrl);
      await assert.rejects(collect(tight, { workingFolder: root }), /30 requests are spent\. Raise budget\.requests.*10 of 20 answers/);
      assert.equal(provider.billedCount(), 70);
      // A finished run asks for nothing more.
      await collect(file, { workingFolder: root });
      assert.equal(provider.batches.length, 4);
      const { arms } = await estimateCollection(
        await configFile('batch-estimate', '{ batch: {}, prices: { inputPerMillion: 4, outputPerMillion: 20 } }', provider.baseUrl),
        5,
        { workingFolder: root },
      );
      const [one] = arms;
      const { usd, promptTokens, completionTokens, durationMs } = one?.estimate ?? assert.fail();
      // Half of the price, and no word on how long it takes.
      assert.ok(usd !== undefined && Math.abs(usd.high - (2 * promptTokens.high + 10 * completionTokens.high) / 1e6) < 1e-12);
      assert.equal(durationMs, undefined);
      assert.match(one?.text ?? '', /in batches, which take a day at most/);
    } finally {
      await provider.close();
    }
  });

  it('writes a batch file of all arms, and takes in its answers', async () => {
    const file = await configFile('offline', '{}');
    const before = server.served.length;
    const written = await writeCollectionBatch(file, 'batch.jsonl', { workingFolder: root, offline: true });
    assert.deepEqual([written.files, written.requestCount], [[join(root, 'batch.jsonl')], 40]);
    const lines = (await readFile(join(root, 'batch.jsonl'), 'utf8')).trimEnd().split('\n');
    const answers = lines.slice(1).map((line) => {
      const { custom_id: id } = JSON.parse(line);
      const body = {
        choices: [{ message: { content: '#### 1' }, finish_reason: 'stop' }],
        usage: { prompt_tokens: 9, completion_tokens: 2 },
      };
      return JSON.stringify({ id, custom_id: id, response: { status_code: 200, request_id: id, body }, error: null });
    });
    await writeFile(join(root, 'out.jsonl'), answers.reverse().join('\n'));
    const read = await readCollectionBatch(file, 'out.jsonl', { workingFolder: root, offline: true });
    assert.deepEqual(read, { newCount: 39, knownCount: 0, failures: {}, strangeCount: 0, openCount: 1 });
    // What was written is no output.
    const wrong = await readCollectionBatch(file, 'batch.jsonl', { workingFolder: root });
    assert.deepEqual([wrong.newCount, wrong.strangeCount], [0, 40]);
    assert.equal(server.served.length, before);
    await collect(file, { workingFolder: root });
    assert.equal(
      server.served.filter(({ isBilled }) => isBilled).length - server.served.slice(0, before).filter(({ isBilled }) => isBilled).length,
      1,
    );
  });

  it('names a wrong key of the section, and asks no host but this machine when offline', async () => {
    await assert.rejects(collect(await configFile('wrong', '{ budget: { dollars: 3 } }'), { workingFolder: root }), /dollars/);
    const remote = join(root, 'remote.yaml');
    await writeFile(
      remote,
      'name: remote\ntask: { name: word-problems }\nteacher: { kind: openai-compatible, baseUrl: https://models.example/v1, model: big }\nstudent: { model: ./student }\narms: [none]\n',
    );
    await assert.rejects(collect(remote, { workingFolder: root, offline: true }), /models\.example, and this run is offline/);
  });
});
