import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import type { DataAccess } from '../src/data/open-data.ts';
import { readRows } from '../src/data/read-rows.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { readExamples } from '../src/tasks/read-examples.ts';
import { parseHubDataReference } from '../src/weights/hub-reference.ts';
import { type FakeHub, startFakeHub } from './fake-hub.ts';
import { parquetBytes } from './parquet-bytes.ts';

const name = 'ada/problems';
const questions = (count: number, from = 0) => {
  const numbers = Array.from({ length: count }, (_, index) => index + from);
  // Long, and unlike each other, so that a row group is many times what is read besides.
  const filler = (number: number) => {
    const random = randomFrom(number, 'filler');
    return Array.from({ length: 4000 }, () => random.integer(2 ** 32).toString(36)).join(' ');
  };
  return {
    question: numbers.map((number) => `What is ${number}? ${filler(number)}`),
    answer: numbers.map((number) => `It is.\n#### ${number}`),
    notes: numbers.map((number) => filler(number + 1e6)),
  };
};
const readme =
  '---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: main/train-*}\n  - {split: test, path: main/test-*}\n---\n# Problems\n';
const files = {
  'README.md': readme,
  'main/train-00000-of-00002.parquet': parquetBytes(questions(60), 10),
  'main/train-00001-of-00002.parquet': parquetBytes(questions(40, 60), 10),
  'main/test-00000-of-00001.parquet': parquetBytes(questions(4, 500), 10),
  'extra/lines.jsonl': `{"question":"q","answer":"#### 1"}\n`.repeat(3),
};
const withHub = async (use: (hub: FakeHub, access: DataAccess, cache: string) => Promise<void>): Promise<void> => {
  const hub = await startFakeHub(name, files);
  const cache = await mkdtemp(join(tmpdir(), 'retort-hub-data-'));
  try {
    await use(hub, { environment: { HF_ENDPOINT: hub.url, HF_HOME: cache }, sleep: async () => undefined }, cache);
  } finally {
    await hub.close();
    await rm(cache, { recursive: true });
  }
};
const golds = async (source: string, split: string, access: DataAccess, options: { limit?: number; skip?: number } = {}) =>
  (await readExamples(gsm8k, source, split, { ...options, access })).map(({ gold }) => Number(gold));
const range = (count: number, from = 0) => Array.from({ length: count }, (_, index) => index + from);
const bytesOf = ({ requests }: FakeHub): number =>
  requests.reduce((sum, { range: given }) => {
    const [, begin, end] = /bytes=(\d+)-(\d+)/.exec(given ?? '') ?? [];
    return begin === undefined ? sum : sum + Number(end) - Number(begin) + 1;
  }, 0);

describe('a data set on the hub', () => {
  it('is named like a model, with a subset, a file and a revision', () => {
    const commit = 'c'.repeat(40);
    assert.deepEqual(parseHubDataReference('hub:a/b'), { kind: 'dataset', name: 'a/b', revision: 'main', path: undefined });
    assert.deepEqual(parseHubDataReference(`hub:a/b/main/x-*.parquet@${commit}`), {
      kind: 'dataset',
      name: 'a/b',
      revision: commit,
      path: 'main/x-*.parquet',
    });
    assert.deepEqual(parseHubDataReference('hub:a/b@refs/convert/parquet')?.revision, 'refs/convert/parquet');
    for (const text of ['a/b', 'hub:a', 'hub:../b', 'hub:a/b c']) assert.equal(parseHubDataReference(text), undefined, text);
  });

  it('gives the rows of all parts of a split, and says which commit', () =>
    withHub(async (hub, access) => {
      const said: string[] = [];
      assert.deepEqual(await golds(`hub:${name}`, 'train', { ...access, say: (line) => said.push(line) }), range(100));
      assert.deepEqual(said, [`hub:${name} is read as of commit ${hub.commit}; write @${hub.commit} to keep to it.`]);
      assert.deepEqual(await golds(`hub:${name}/main@${hub.commit}`, 'test', access), range(4, 500));
      assert.deepEqual(await golds(`hub:${name}/extra/lines.jsonl`, 'train', access), [1, 1, 1]);
    }));

  it('is read by range: the row groups and columns that are wanted, and no file as a whole', () =>
    withHub(async (hub, access) => {
      const source = `hub:${name}/main/train-00000-of-00002.parquet@${hub.commit}`;
      const size = files['main/train-00000-of-00002.parquet'].length;
      // The footer is read with the last half megabyte.
      assert.ok(size > 5 * 2 ** 19, `${size}`);
      assert.deepEqual(await golds(source, 'train', access, { limit: 10 }), range(10));
      assert.ok(bytesOf(hub) < 2 ** 19 + 0.1 * size + 1000, `${bytesOf(hub)} of ${size}`); // One of six row groups, two columns of three.
      const storage = hub.requests.filter(({ host }) => host === 'storage');
      assert.ok(storage.length > 0 && storage.every(({ range: given }) => given !== undefined));
      assert.ok(hub.requests.every(({ path }) => !path.includes('train-00001')));
    }));

  it('goes on after an interruption, and gives up on what stays broken', () =>
    withHub(async (hub, access) => {
      hub.behaviour.cuts = { afterBytes: 1000, times: 3 };
      hub.behaviour.outages = 2;
      assert.deepEqual(await golds(`hub:${name}`, 'train', access, { limit: 20 }), range(20));
      hub.behaviour.cuts = { afterBytes: 1000, times: 100 };
      await assert.rejects(
        golds(`hub:${name}`, 'train', access),
        (error) => error instanceof UserError && /Cannot reach/.test(error.message),
      );
    }));

  it('names file and row, part by part', () =>
    withHub(async (_, access) => {
      const places: string[] = [];
      for await (const { where } of readRows(`hub:${name}`, { split: 'train', what: 'a test', access })) places.push(where);
      assert.equal(places[0], `hub:${name}/main/train-00000-of-00002.parquet, row 1`);
      assert.equal(places[60], `hub:${name}/main/train-00001-of-00002.parquet, row 1`);
    }));

  it('is refused in words that say what to do', () =>
    withHub(async (hub, access) => {
      const refused = (source: string, split: string, pattern: RegExp, given = access) =>
        assert.rejects(
          golds(source, split, given),
          (error) => error instanceof UserError && pattern.test(error.message) && !error.message.includes('model'),
        );
      await refused('hub:ada/nothing', 'train', /has no data ?set ada\/nothing/);
      await refused(`hub:${name}`, 'validation', /has no split "validation"\. It has: train, test/);
      await refused(`hub:${name}/other`, 'train', /hub:ada\/problems\/other has no train\.jsonl.*Its subsets: main/s);
      await refused('hub:nonsense', 'train', /names no data on the hub/);
      await refused(`hub:${name}`, 'train', /Offline, and hub:ada\/problems is not in the cache/, { ...access, offline: true });
      hub.behaviour.token = 'secret';
      await refused(`hub:${name}`, 'train', /no public data ?set.*HF_TOKEN/);
      const withToken = { ...access, environment: { ...access.environment, HF_TOKEN: 'secret' } };
      assert.equal((await golds(`hub:${name}`, 'test', withToken)).length, 4);
      assert.ok(hub.requests.every(({ host, authorization }) => host === 'hub' || authorization === undefined));
    }));

  it('is taken from the cache of Hugging Face’s own libraries where it is there, also offline', () =>
    withHub(async (hub, access, cache) => {
      const store = join(cache, 'hub', 'datasets--ada--problems');
      for (const [path, content] of Object.entries(files)) {
        const target = join(store, 'snapshots', hub.commit, path);
        await mkdir(dirname(target), { recursive: true });
        await writeFile(target, content);
      }
      await mkdir(join(store, 'refs'), { recursive: true });
      await writeFile(join(store, 'refs', 'main'), hub.commit);
      assert.deepEqual(await golds(`hub:${name}`, 'test', { ...access, offline: true }), range(4, 500));
      assert.equal(hub.requests.length, 0);
      assert.deepEqual(await golds(`hub:${name}`, 'test', access), range(4, 500));
      assert.ok(hub.requests.every(({ host }) => host === 'hub'));
    }));
});
