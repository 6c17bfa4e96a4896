import assert from 'node:assert/strict';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { connectToHub } from '../src/weights/hub-connection.ts';
import { parseHubReference } from '../src/weights/hub-reference.ts';
import { openModelFolder } from '../src/weights/model-folder.ts';
import { type ResolveOptions, resolveModel } from '../src/weights/resolve-model.ts';
import { type FakeHub, startFakeHub } from './fake-hub.ts';
import { goldenPath } from './golden/golden-files.ts';

const name = 'ada/tiny-llama';
const weights = await readFile(goldenPath('tiny-llama', 'model.safetensors'));
const config = await readFile(goldenPath('tiny-llama', 'config.json'));
const repository = {
  'config.json': config,
  'tokenizer.json': '{"version":"1.0"}',
  'README.md': '# not needed',
  'model.safetensors': weights,
  'pytorch_model.bin': Buffer.alloc(5000, 1),
};
const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-hub-'));
const refusal =
  (...parts: readonly string[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError, `a ${String(error)} instead of a UserError`);
    for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    return true;
  };

/** A hub, a cache and a way to resolve with them; the hub is closed afterwards. */
const withHub = async (
  files: Readonly<Record<string, string | Buffer>>,
  use: (hub: FakeHub, resolve: (reference?: string, options?: ResolveOptions) => Promise<string>, cacheFolder: string) => Promise<void>,
): Promise<void> => {
  const hub = await startFakeHub(name, files);
  const cacheFolder = await temporaryFolder();
  try {
    const common: ResolveOptions = { cacheFolder, hubUrl: hub.url, environment: { HF_HOME: cacheFolder }, sleep: async () => undefined };
    await use(hub, (reference = name, options = {}) => resolveModel(reference, { ...common, ...options }), cacheFolder);
  } finally {
    await hub.close();
  }
};

describe('a model on the hub', () => {
  it('is downloaded once: what a model needs, and nothing else', () =>
    withHub(repository, async (hub, resolve) => {
      const progress: string[] = [];
      const folder = await resolve(name, {
        onProgress: ({ file, doneBytes, totalBytes }) => progress.push(`${file} ${doneBytes / totalBytes}`),
      });
      assert.equal(basename(folder), hub.commit);
      assert.deepEqual((await readdir(folder)).sort(), ['config.json', 'hub-files.json', 'model.safetensors', 'tokenizer.json']);
      assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
      assert.ok(progress.includes('model.safetensors 1'), progress.join());
      const model = await openModelFolder(folder);
      await model.tensors.close();

      hub.requests.length = 0;
      assert.equal(await resolve(), folder);
      assert.equal(hub.requests.length, 1, 'only whether `main` has moved is asked again');
      hub.requests.length = 0;
      assert.equal(await resolve(`${name}@${hub.commit}`), folder);
      assert.deepEqual(hub.requests, [], 'a commit cannot move');
    }));

  it('may be named by revision and with hub: in front', () =>
    withHub(repository, async (hub, resolve) => {
      assert.equal(basename(await resolve(`hub:${name}@v1`)), hub.commit);
      await assert.rejects(resolve(`${name}@v2`), refusal(name, 'v2', 'no revision'));
    }));

  it('in shards comes with the shards that its index names', () => {
    const index = { weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } };
    const shards = {
      'config.json': config,
      'model.safetensors.index.json': JSON.stringify(index),
      'model-00001-of-00002.safetensors': 'one',
      'model-00002-of-00002.safetensors': 'two',
    };
    return withHub(shards, async (_, resolve) => {
      const folder = await resolve();
      assert.equal(await readFile(join(folder, 'model-00002-of-00002.safetensors'), 'utf8'), 'two');
    });
  });

  it('with several .gguf files is asked which one', () =>
    withHub({ 'a-Q4_0.gguf': 'four', 'a-Q8_0.gguf': 'eight' }, async (_, resolve) => {
      await assert.rejects(resolve(), refusal('2 .gguf files', `${name}/a-Q4_0.gguf`));
      await assert.rejects(resolve(`hub:${name}/a-Q2_K.gguf`), refusal('a-Q2_K.gguf', 'a-Q4_0.gguf, a-Q8_0.gguf'));
      const path = await resolve(`hub:${name}/a-Q8_0.gguf`);
      assert.equal(await readFile(path, 'utf8'), 'eight');
      assert.deepEqual((await readdir(dirname(path))).sort(), ['a-Q8_0.gguf', 'hub-files.json']);
    }));
});

describe('a download', () => {
  it('that is cut goes on where it ended', () =>
    withHub(repository, async (hub, resolve) => {
      hub.behaviour.cuts = { afterBytes: 20_000, times: 2 };
      const folder = await resolve();
      assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
      const ranges = hub.requests.filter(({ host, range }) => host === 'storage' && range !== 'bytes=0-0').map(({ range }) => range);
      assert.deepEqual(ranges, [undefined, `bytes=20000-${weights.length - 1}`, `bytes=40000-${weights.length - 1}`]);
    }));

  it('that was interrupted with its process goes on at the next start', () =>
    withHub(repository, async (hub, resolve, cacheFolder) => {
      const folder = join(cacheFolder, 'models', name.replace('/', '--'), hub.commit);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'model.safetensors.part'), weights.subarray(0, 30_000));
      await resolve();
      assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
      assert.ok(hub.requests.some(({ range }) => range === `bytes=30000-${weights.length - 1}`));
    }));

  it('that goes on from wrong bytes starts over', () =>
    withHub(repository, async (hub, resolve, cacheFolder) => {
      const folder = join(cacheFolder, 'models', name.replace('/', '--'), hub.commit);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'model.safetensors.part'), Buffer.alloc(30_000, 7));
      await resolve();
      assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
    }));

  it('whose hash is wrong is refused and leaves no file', () =>
    withHub(repository, async (hub, resolve, cacheFolder) => {
      hub.behaviour.isCorrupt = true;
      await assert.rejects(resolve(), refusal('model.safetensors', 'damaged'));
      const folder = join(cacheFolder, 'models', name.replace('/', '--'), hub.commit);
      assert.deepEqual(
        (await readdir(folder)).filter((file) => file.startsWith('model')),
        [],
      );
    }));

  it('survives a hub that is overloaded for a moment, and gives up on one that stays so', () =>
    withHub(repository, async (hub, resolve) => {
      hub.behaviour.outages = 100;
      await assert.rejects(resolve(), refusal('answered 503', name));
      hub.behaviour.outages = 3;
      await resolve();
    }));

  it('survives a connection that breaks a few times, and gives up on one that always does', () =>
    withHub(repository, async (hub, resolve) => {
      hub.behaviour.cuts = { afterBytes: 0, times: 100 };
      await assert.rejects(resolve(), refusal('Cannot reach', name));
      hub.behaviour.cuts = { afterBytes: 0, times: 3 };
      await resolve();
    }));

  it('that is stopped keeps what arrived, and goes on from there', () =>
    withHub(repository, async (hub, resolve, cacheFolder) => {
      const stop = new AbortController();
      const reason = new UserError('Stopped.');
      hub.behaviour.pauseAfterBytes = 25_000;
      const stopped = resolve(name, {
        signal: stop.signal,
        onProgress: ({ doneBytes }) => {
          if (doneBytes === 25_000) stop.abort(reason);
        },
      });
      await assert.rejects(stopped, (error) => error === reason);
      const part = join(cacheFolder, 'models', name.replace('/', '--'), hub.commit, 'model.safetensors.part');
      assert.deepEqual(await readFile(part), weights.subarray(0, 25_000));
      hub.behaviour.pauseAfterBytes = undefined;
      await resolve();
      assert.ok(hub.requests.some(({ range }) => range === `bytes=25000-${weights.length - 1}`));
    }));

  it('by two at once is done once', () =>
    withHub(repository, async (hub, resolve) => {
      const slow = { sleep: (ms: number) => new Promise<void>((done) => setTimeout(done, ms / 20)) };
      const [first, second] = await Promise.all([resolve(name, slow), resolve(name, slow)]);
      assert.equal(first, second);
      assert.equal(hub.requests.filter(({ host, range }) => host === 'storage' && range === undefined).length, 1);
    }));
});

describe('offline', () => {
  it('serves what is wholly in the cache, without a request', () =>
    withHub(repository, async (hub, resolve) => {
      const folder = await resolve();
      hub.requests.length = 0;
      assert.equal(await resolve(name, { offline: true }), folder);
      assert.equal(await resolve(name, { environment: { HF_HUB_OFFLINE: '1', HF_HOME: '/none' } }), folder);
      assert.deepEqual(hub.requests, []);
    }));

  it('refuses what is not, and says which files are missing', () =>
    withHub(repository, async (hub, resolve) => {
      await assert.rejects(resolve(name, { offline: true }), refusal('Offline', name, 'not in the cache'));
      const folder = await resolve();
      await rm(join(folder, 'model.safetensors'));
      hub.requests.length = 0;
      await assert.rejects(resolve(name, { offline: true }), refusal('Offline', 'not in the cache', ': model.safetensors.'));
      await assert.rejects(resolve(`${name}@v1`, { offline: true }), refusal('Offline', `${name}@v1`));
      assert.deepEqual(hub.requests, []);
    }));

  it('by accident: a hub that cannot be reached is replaced by the cache, with a warning', async () => {
    let closed: (() => Promise<string>) | undefined;
    const warnings: string[] = [];
    await withHub(repository, async (_, resolve) => {
      await resolve();
      closed = () => resolve(name, { onWarning: (message) => warnings.push(message) });
    });
    assert.match((await closed?.()) ?? '', /[0-9a-f]{40}$/);
    assert.match(warnings.join(), /Cannot reach .* Using the copy in the cache/);
    const failure = resolveModel(name, { hubUrl: 'http://127.0.0.1:9', cacheFolder: await temporaryFolder(), environment: {} });
    await assert.rejects(failure, refusal('Cannot reach http://127.0.0.1:9', name));
  });
});

describe("the cache of Hugging Face's own libraries", () => {
  /** The layout of huggingface_hub: blobs, links to them by commit, the commit by revision. */
  const withSnapshot = async (commit: string, files: Readonly<Record<string, string | Buffer>>): Promise<string> => {
    const cache = await temporaryFolder();
    const store = join(cache, 'models--ada--tiny-llama');
    for (const folder of ['blobs', 'refs', `snapshots/${commit}`]) await mkdir(join(store, folder), { recursive: true });
    for (const [file, content] of Object.entries(files)) {
      await writeFile(join(store, 'blobs', file), content);
      await symlink(join('..', '..', 'blobs', file), join(store, 'snapshots', commit, file));
    }
    await writeFile(join(store, 'refs', 'main'), commit);
    return cache;
  };
  const needed = { 'config.json': config, 'tokenizer.json': repository['tokenizer.json'], 'model.safetensors': weights };

  it('serves offline, and online when it has the same commit: nothing is downloaded', () =>
    withHub(repository, async (hub, resolve) => {
      const cache = await withSnapshot(hub.commit, needed);
      const expected = join(cache, 'models--ada--tiny-llama', 'snapshots', hub.commit);
      const environment = { HF_HUB_CACHE: cache };
      assert.equal(await resolve(name, { offline: true, environment }), expected);
      assert.equal(await resolve(`${name}@${hub.commit}`, { offline: true, environment }), expected);
      assert.equal(hub.requests.length, 0);
      assert.equal(await resolve(name, { environment }), expected);
      assert.ok(hub.requests.every(({ path }) => path.startsWith('/api/')));
      await (await openModelFolder(expected)).tensors.close();
    }));

  it('does not serve an older commit, or a snapshot that is not whole', () =>
    withHub(repository, async (hub, resolve, cacheFolder) => {
      const old = { HF_HUB_CACHE: await withSnapshot('0'.repeat(40), needed) };
      assert.ok((await resolve(name, { environment: old })).startsWith(cacheFolder));
      const part = { HF_HUB_CACHE: await withSnapshot(hub.commit, { 'config.json': config }), RETORT_CACHE: cacheFolder };
      const failure = resolve(name, { offline: true, environment: part, cacheFolder: await temporaryFolder() });
      await assert.rejects(failure, refusal('Offline', name));
    }));
});

describe('the token', () => {
  it('goes to the hub and never to the storage that it redirects to', () =>
    withHub(repository, async (hub, resolve) => {
      hub.behaviour.token = 'hf_secret';
      const folder = await resolve(name, { environment: { HF_TOKEN: 'hf_secret' } });
      assert.deepEqual(await readFile(join(folder, 'model.safetensors')), weights);
      const byHost = Map.groupBy(hub.requests, ({ host }) => host);
      assert.deepEqual(new Set(byHost.get('hub')?.map(({ authorization }) => authorization)), new Set(['Bearer hf_secret']));
      assert.deepEqual(new Set(byHost.get('storage')?.map(({ authorization }) => authorization)), new Set([undefined]));
    }));

  it('does not go to an address without encryption', () => {
    const environment = { HF_TOKEN: 'hf_secret' };
    assert.throws(() => connectToHub({ environment, hubUrl: 'http://hub.example' }), refusal('not https'));
    assert.throws(() => connectToHub({ environment: { HF_ENDPOINT: 'hub.example' } }), refusal('HF_ENDPOINT', 'hub.example'));
    assert.equal(connectToHub({ environment: { HF_ENDPOINT: 'https://hub.example/' } }).url, 'https://hub.example');
  });

  it('is asked for when it is missing, and named when it is not accepted; its text is in no message', () =>
    withHub(repository, async (hub, resolve) => {
      hub.behaviour.token = 'hf_secret';
      await assert.rejects(resolve(), refusal('no public model', 'private or gated', 'HF_TOKEN'));
      const wrong = await resolve(name, { environment: { HF_TOKEN: 'hf_other' } }).catch((error: Error) => error.message);
      assert.match(wrong, /does not accept HF_TOKEN/);
      assert.doesNotMatch(wrong, /hf_other/);
      Object.assign(hub.behaviour, { token: undefined, fileStatus: 403 });
      await assert.rejects(resolve(), refusal('gated', `${hub.url}/${name}`));
    }));
});

describe('what is no model', () => {
  it('a name that nobody has', () =>
    withHub(repository, async (_, resolve, cacheFolder) => {
      await assert.rejects(resolve('ada/tiny-lama'), refusal('no model ada/tiny-lama', '/ada/tiny-lama'));
      assert.deepEqual(await readdir(cacheFolder), [], 'it leaves nothing in the cache');
    }));

  it('a repository without weights that retort reads: what was looked for, and what is there', () =>
    withHub({ 'config.json': config, 'pytorch_model.bin': 'x' }, async (_, resolve, cacheFolder) => {
      await assert.rejects(resolve(), refusal('model.safetensors', '.gguf', 'there are: config.json, pytorch_model.bin'));
      assert.deepEqual(
        await readdir(cacheFolder, { recursive: true }).then((all) => all.filter((path) => path.endsWith('hub-files.json'))),
        [],
      );
    }));

  it('a folder or path that holds none, without asking any hub', async () => {
    const folder = await temporaryFolder();
    const options: ResolveOptions = { environment: {}, hubUrl: 'http://127.0.0.1:9', cacheFolder: folder };
    await writeFile(join(folder, 'notes.txt'), '');
    await assert.rejects(resolveModel(folder, options), refusal(folder, 'config.json', '.gguf', 'notes.txt'));
    await assert.rejects(resolveModel(join(folder, 'notes.txt'), options), refusal('notes.txt', '.gguf'));
    await assert.rejects(resolveModel(join(folder, 'none'), options), refusal('no model at', join(folder, 'none')));
    await assert.rejects(resolveModel('../some/where/else', options), refusal('no model at'));
  });
});

it('a folder and a .gguf file on the disk are used as they are', async () => {
  const folder = await temporaryFolder();
  await copyFile(goldenPath('gguf', 'llama.gguf'), join(folder, 'model.gguf'));
  assert.equal(await resolveModel(folder, { environment: {} }), folder);
  assert.equal(await resolveModel(join(folder, 'model.gguf'), { environment: {} }), join(folder, 'model.gguf'));
});

it('references are read, and nothing else is taken for one', () => {
  const of = (text: string) => {
    const { name: model, revision, ggufFile } = parseHubReference(text) ?? {};
    return [model, revision, ggufFile];
  };
  assert.deepEqual(of('a/b'), ['a/b', 'main', undefined]);
  assert.deepEqual(of('hub:a/b@refs/pr/1'), ['a/b', 'refs/pr/1', undefined]);
  assert.deepEqual(of('a/b/c/d-Q4_0.gguf@v1'), ['a/b', 'v1', 'c/d-Q4_0.gguf']);
  for (const text of ['a', './a/b', '/a/b', 'a/../b', 'https://huggingface.co/a/b', 'a/b/c', 'a\\b'])
    assert.equal(parseHubReference(text), undefined, text);
});
