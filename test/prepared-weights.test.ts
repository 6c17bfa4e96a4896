import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, open, readdir, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { UserError } from '../src/base/errors.ts';
import { defaultCacheFolder } from '../src/weights/cache-folder.ts';
import { openGguf } from '../src/weights/gguf.ts';
import { cleanPreparedWeights, listPreparedWeights, type PrepareOptions, prepareWeights } from '../src/weights/prepared-weights.ts';
import type { TensorSource } from '../src/weights/tensor-source.ts';
import { goldenPath } from './golden/golden-files.ts';

const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-cache-'));

/** A source of tensors in memory that counts how often it is read. */
const sourceOf = (
  fingerprint: string,
  tensors: Readonly<Record<string, readonly [storage: string, shape: number[], values: number[]]>>,
) => {
  const reads: string[] = [];
  const source: TensorSource = {
    names: new Map(Object.entries(tensors).map(([name, [storage, shape]]) => [name, { shape, storage }])),
    fingerprint: async () => fingerprint,
    read: async (name) => {
      reads.push(name);
      const values = tensors[name]?.[2];
      if (values === undefined) throw new UserError(`no tensor ${name}`);
      return Float32Array.from(values);
    },
    close: async () => undefined,
  };
  return { source, reads };
};

const small: Parameters<typeof sourceOf>[1] = { a: ['F32', [3], [1, 2, 3]], ids: ['I64', [1], [0]], b: ['BF16', [2, 2], [4, 5, 6, 7]] };
const smallSource = (fingerprint = 'x') => sourceOf(fingerprint, small);

const floatsAt = async (file: string, offset: number, byteLength: number): Promise<number[]> => {
  const handle = await open(file);
  try {
    const values = new Float32Array(byteLength / 4);
    await handle.read(new Uint8Array(values.buffer), 0, byteLength, offset);
    return [...values];
  } finally {
    await handle.close();
  }
};

describe('the cache of converted weights', () => {
  it('holds each tensor in float32 at the start of a page, without integers', async () => {
    const { source } = smallSource();
    const { file, tensors, wasCached } = await prepareWeights(source, { cacheFolder: await temporaryFolder() });
    assert.equal(wasCached, false);
    assert.deepEqual(Object.fromEntries(tensors), {
      a: { offset: 0, byteLength: 12, shape: [3] },
      b: { offset: 4096, byteLength: 16, shape: [2, 2] },
    });
    assert.deepEqual(await floatsAt(file, 0, 12), [1, 2, 3]);
    assert.deepEqual(await floatsAt(file, 4096, 16), [4, 5, 6, 7]);
    assert.equal((await stat(file)).size, 8192);
  });

  it('is found again by the fingerprint, and by nothing else', async () => {
    const cacheFolder = await temporaryFolder();
    const first = await prepareWeights(smallSource().source, { cacheFolder });
    const { source, reads } = smallSource();
    const second = await prepareWeights(source, { cacheFolder });
    assert.deepEqual({ ...second, wasCached: false }, first);
    assert.deepEqual([second.wasCached, reads], [true, []]);
    assert.equal((await prepareWeights(smallSource('y').source, { cacheFolder })).wasCached, false);
  });

  it('converts a GGUF to the numbers that reading it gives', async () => {
    const source = await openGguf(goldenPath('gguf', 'qwen2.gguf'));
    try {
      const progress: number[] = [];
      const options: PrepareOptions = { cacheFolder: await temporaryFolder(), onProgress: (done, total) => progress.push(done / total) };
      const { file, tensors } = await prepareWeights(source, options);
      assert.deepEqual([...tensors.keys()], [...source.names.keys()]);
      for (const [name, { offset, byteLength }] of tensors) {
        assert.equal(offset % 4096, 0);
        assert.deepEqual(await floatsAt(file, offset, byteLength), [...(await source.read(name))], name);
      }
      assert.equal(progress.length, tensors.size);
    } finally {
      await source.close();
    }
  });

  it('leaves nothing behind when a tensor cannot be read, and the next attempt succeeds', async () => {
    const cacheFolder = await temporaryFolder();
    const { source } = smallSource();
    const torn: TensorSource = {
      ...source,
      read: async (name) => (name === 'b' ? Promise.reject(new UserError('tensor b is torn')) : source.read(name)),
    };
    await assert.rejects(prepareWeights(torn, { cacheFolder }), /tensor b is torn/);
    assert.deepEqual(await readdir(join(cacheFolder, 'weights')), []);
    assert.equal((await prepareWeights(source, { cacheFolder })).wasCached, false);
  });

  for (const [what, damage] of Object.entries({
    'cut short': ({ file }: { file: string }) => truncate(file, 4096),
    'without its index': ({ folder }: { folder: string }) => rm(join(folder, 'index.json')),
    'with half an index': ({ folder }: { folder: string }) => writeFile(join(folder, 'index.json'), '{"formatVersion":1'),
    'without its weights': ({ file }: { file: string }) => rm(file),
  })) {
    it(`makes an entry ${what} anew`, async () => {
      const cacheFolder = await temporaryFolder();
      const first = await prepareWeights(smallSource().source, { cacheFolder });
      await damage(first);
      const second = await prepareWeights(smallSource().source, { cacheFolder });
      assert.equal(second.wasCached, false);
      assert.deepEqual(await floatsAt(second.file, 4096, 16), [4, 5, 6, 7]);
      assert.deepEqual(await readdir(join(cacheFolder, 'weights')), [basename(first.folder)]);
    });
  }

  it('serves several processes that make one entry at once', { timeout: 60_000 }, async () => {
    const cacheFolder = await temporaryFolder();
    const program = `
      import { openGguf } from ${JSON.stringify(new URL('../src/weights/gguf.ts', import.meta.url).href)};
      import { prepareWeights } from ${JSON.stringify(new URL('../src/weights/prepared-weights.ts', import.meta.url).href)};
      const source = await openGguf(${JSON.stringify(goldenPath('gguf', 'llama.gguf'))});
      const { file, tensors } = await prepareWeights(source, { cacheFolder: ${JSON.stringify(cacheFolder)} });
      await source.close();
      console.log(JSON.stringify([file, tensors.size]));`;
    const run = () => promisify(execFile)(process.execPath, ['--input-type=module-typescript', '--eval', program]);
    const outputs = (await Promise.all([run(), run(), run()])).map(({ stdout }) => stdout);
    assert.equal(new Set(outputs).size, 1, outputs.join());
    const [entry] = await listPreparedWeights(cacheFolder);
    assert.equal((await readdir(join(cacheFolder, 'weights'))).length, 1, 'no drafts are left');
    const source = await openGguf(goldenPath('gguf', 'llama.gguf'));
    try {
      const { file, tensors, wasCached } = await prepareWeights(source, { cacheFolder });
      assert.deepEqual([wasCached, file], [true, join(entry?.folder ?? '', 'weights.bin')]);
      for (const [name, { offset, byteLength }] of tensors)
        assert.deepEqual(await floatsAt(file, offset, byteLength), [...(await source.read(name))]);
    } finally {
      await source.close();
    }
  });

  it('says which folder it could not write to', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'file'), '');
    const failure = prepareWeights(smallSource().source, { cacheFolder: join(folder, 'file') });
    await assert.rejects(failure, (error) => error instanceof UserError && error.message.includes(join(folder, 'file')));
  });
});

describe('cleaning', () => {
  const hour = 3600_000;
  /** Three entries of two pages; used at 1, 2 and 3 hours after 1970. */
  const threeEntries = async () => {
    const cacheFolder = await temporaryFolder();
    const folders: string[] = [];
    for (const at of [1, 2, 3]) {
      const { folder, file } = await prepareWeights(smallSource(`${at}`).source, { cacheFolder });
      for (const path of [file, join(folder, 'index.json')]) await utimes(path, at * 3600, at * 3600);
      folders.push(folder);
    }
    return { cacheFolder, folders };
  };
  const left = async (cacheFolder: string) => (await listPreparedWeights(cacheFolder)).map(({ folder }) => folder);

  it('removes what was not used for longest until the rest is within the limit', async () => {
    const { cacheFolder, folders } = await threeEntries();
    assert.deepEqual(await left(cacheFolder), folders);
    const removed = await cleanPreparedWeights({ cacheFolder, limitBytes: 2 * 9000, now: () => 10 * hour });
    assert.deepEqual(
      removed.map(({ folder }) => folder),
      folders.slice(0, 1),
    );
    assert.deepEqual(await left(cacheFolder), folders.slice(1));
  });

  it('counts reading as use', async () => {
    const { cacheFolder, folders } = await threeEntries();
    await prepareWeights(smallSource('1').source, { cacheFolder, now: () => 5 * hour });
    await cleanPreparedWeights({ cacheFolder, limitBytes: 2 * 9000, now: () => 10 * hour });
    assert.deepEqual(await left(cacheFolder), [folders[2], folders[0]]);
  });

  it('spares what was used within the hour, whatever the limit', async () => {
    const { cacheFolder, folders } = await threeEntries();
    await cleanPreparedWeights({ cacheFolder, limitBytes: 0, now: () => 3.5 * hour });
    assert.deepEqual(await left(cacheFolder), folders.slice(2));
  });

  it('happens by itself when something new is made', async () => {
    const { cacheFolder, folders } = await threeEntries();
    const { folder } = await prepareWeights(smallSource('new').source, { cacheFolder, limitBytes: 2 * 9000 });
    assert.deepEqual(await left(cacheFolder), [folders[2], folder]);
  });

  it('removes the draft of a process that is gone, not one that is being written', async () => {
    const cacheFolder = await temporaryFolder();
    const [old, young] = ['draft-old', 'draft-young'].map((name) => join(cacheFolder, 'weights', name));
    for (const folder of [old ?? '', young ?? '']) {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'weights.bin'), 'abc');
    }
    await utimes(join(old ?? '', 'weights.bin'), 3600, 3600);
    await cleanPreparedWeights({ cacheFolder, limitBytes: 1e9 });
    assert.deepEqual(await left(cacheFolder), [young]);
  });
});

describe('the default cache folder', () => {
  const on = (platform: string, environment: Record<string, string>) => defaultCacheFolder({ platform, environment, home: '/home/ada' });
  it('is RETORT_CACHE, else what the platform has for caches', () => {
    assert.equal(on('linux', { RETORT_CACHE: '/big/disk', XDG_CACHE_HOME: '/x' }), '/big/disk');
    assert.equal(on('linux', { XDG_CACHE_HOME: '/x' }), '/x/retort');
    assert.equal(on('linux', { XDG_CACHE_HOME: 'relative', RETORT_CACHE: '' }), '/home/ada/.cache/retort');
    assert.equal(on('darwin', {}), '/home/ada/Library/Caches/retort');
    assert.equal(on('win32', { LOCALAPPDATA: 'L' }), join('L', 'retort', 'cache'));
  });
});
