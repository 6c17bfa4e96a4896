import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeSync } from 'node:fs';
import { appendFile, chmod, mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FolderInUseError, lockFolder } from '../src/base/folder-lock.ts';
import { DiskFullError, pathWithin, sha256OfFile, writeFileAtomic } from '../src/base/folders.ts';
import { type AppendableFile, appendJsonLines, readJsonLines, refuseTornLine, type TornLine } from '../src/base/json-lines.ts';

const folder = await mkdtemp(join(tmpdir(), 'retort-base-'));
after(() => rm(folder, { recursive: true, force: true }));

const valuesOf = async (path: string, onTorn?: (torn: TornLine) => void): Promise<unknown[]> => {
  const values: unknown[] = [];
  for await (const { value } of readJsonLines(path, onTorn === undefined ? {} : { onTorn })) values.push(value);
  return values;
};

describe('writeFileAtomic', () => {
  it('replaces a file whole, makes its folder and leaves no draft', async () => {
    const path = join(folder, 'a/b/manifest.json');
    await writeFileAtomic(path, 'old');
    await writeFileAtomic(path, 'new');
    assert.equal(await readFile(path, 'utf8'), 'new');
    assert.deepEqual(await readdir(join(folder, 'a/b')), ['manifest.json']);
  });

  it('leaves the old file and no draft when it fails', async () => {
    const path = join(folder, 'taken');
    await mkdir(join(path, 'inside'), { recursive: true });
    await assert.rejects(writeFileAtomic(path, 'x')); // A folder cannot be replaced by a file.
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.includes('draft')),
      [],
    );
  });

  it('gives files of texts to their owner alone', { skip: process.platform === 'win32' && 'Windows has no such permissions' }, async () => {
    const path = join(folder, 'private.json');
    await writeFileAtomic(path, 'x', { mode: 0o600 });
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });
});

it('sha256OfFile is the digest of FIPS 180-2, appendix B.1', async () => {
  const path = join(folder, 'abc');
  await writeFile(path, 'abc');
  assert.equal(await sha256OfFile(path), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});

it('pathWithin refuses names that leave the folder', () => {
  assert.equal(pathWithin(folder, 'train-7.json'), join(folder, 'train-7.json'));
  for (const name of ['../x', '/etc/passwd', 'a/../../x', '', '.', '..', 'a\0b', '..\\x', '.hidden', 'a/.lock'])
    assert.throws(() => pathWithin(folder, name), /does not lead to a file/, JSON.stringify(name));
});

describe('JSON lines', () => {
  it('come back as they were appended, over several openings', async () => {
    const path = join(folder, 'new/lines.jsonl');
    const written = Array.from({ length: 500 }, (_, index) => ({ index, text: `é\n"${'x'.repeat(index)}\u2028` }));
    for (const part of [written.slice(0, 200), written.slice(200)]) {
      const appender = await appendJsonLines(path);
      await Promise.all(part.map((value) => appender.append(value)));
      await appender.close();
    }
    assert.deepEqual(await valuesOf(path), written);
    if (process.platform !== 'win32') assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it('narrow the permissions of an older file', { skip: process.platform === 'win32' && 'Windows has no such permissions' }, async () => {
    const path = join(folder, 'open.jsonl');
    await writeFile(path, '');
    await chmod(path, 0o644);
    await (await appendJsonLines(path)).close();
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it('report a torn last line at whatever byte the writer stopped, and go on after the last whole one', async () => {
    const path = join(folder, 'torn.jsonl');
    const whole = '{"a":1}\n{"b":"é€"}\n';
    const last = Buffer.from('{"c":"ü𝄞"}\n');
    for (let cut = 0; cut <= last.length; cut++) {
      await writeFile(path, Buffer.concat([Buffer.from(whole), last.subarray(0, cut)]));
      const survives = cut >= last.length - 1; // Whole JSON that lacks only its newline is kept.
      const kept = survives ? [{ a: 1 }, { b: 'é€' }, { c: 'ü𝄞' }] : [{ a: 1 }, { b: 'é€' }];
      const torn: TornLine[] = [];
      assert.deepEqual(await valuesOf(path, (line) => torn.push(line)), kept);
      assert.deepEqual(
        torn.map((line) => line.line),
        survives || cut === 0 ? [] : [3],
        `cut at ${cut}`,
      );
      const mended: TornLine[] = [];
      const appender = await appendJsonLines(path, { onTorn: (line) => mended.push(line) });
      await appender.append({ d: 4 });
      await appender.close();
      assert.deepEqual(mended, torn, `cut at ${cut}`);
      assert.deepEqual(await valuesOf(path), [...kept, { d: 4 }], `cut at ${cut}`);
    }
  });

  it('find a torn end that is longer than the piece read at a time', async () => {
    const path = join(folder, 'long-torn.jsonl');
    await writeFile(path, `{"a":1}\n{"b":"${'x'.repeat(200_000)}`);
    const appender = await appendJsonLines(path);
    await appender.append({ c: 3 });
    await appender.close();
    assert.deepEqual(await valuesOf(path), [{ a: 1 }, { c: 3 }]);
  });

  it('name the line that is not JSON, counting blank ones, and take a byte order mark and CRLF', async () => {
    const path = join(folder, 'wrong.jsonl');
    await writeFile(path, '\uFEFF{"a":1}\r\n\r\n{"b":2}\r\n{oops}\r\n{"c":3}\n');
    await assert.rejects(valuesOf(path), /wrong\.jsonl:4: expected a line of JSON, came "\{oops\}/);
    await writeFile(path, '{"a":1}\n{"b":');
    await assert.rejects(valuesOf(path, refuseTornLine(path)), /wrong\.jsonl:2: the last line is not whole/);
    await assert.rejects(valuesOf(join(folder, 'absent.jsonl')), /No file at/);
  });

  it('keep every earlier line whole when the disk is full in the middle of one', async () => {
    const path = join(folder, 'full.jsonl');
    await writeFile(path, '');
    const appender = await appendJsonLines(path, { openFile: smallDisk(100) });
    await appender.append({ kept: 'x'.repeat(40) });
    await assert.rejects(
      appender.append({ lost: 'y'.repeat(80) }),
      (thrown) => thrown instanceof DiskFullError && /make room/.test(thrown.message),
    );
    for (const small of [1, 2, 3]) await assert.rejects(appender.append({ small }), DiskFullError);
    await appender.close();
    assert.equal(await readFile(path, 'utf8'), `{"kept":"${'x'.repeat(40)}"}\n`);
  });

  it('are in the file when they are handed over, and on the disk after the sync that began later', async () => {
    const path = join(folder, 'handed.jsonl');
    const syncs: PromiseWithResolvers<void>[] = [];
    const appender = await appendJsonLines(path, { openFile: withSync(() => heldBack(syncs)) });
    const onDisk: number[] = [];
    const hand = async (value: number) => {
      const handed = await appender.hand(value);
      return handed.onDisk.then(() => onDisk.push(value));
    };
    const saved = [hand(1)];
    while (syncs.length === 0) await sleep(1);
    saved.push(hand(2), hand(3));
    while ((await readFile(path, 'utf8')) !== '1\n2\n3\n') await sleep(1);
    assert.deepEqual([onDisk, syncs.length], [[], 1]);
    syncs[0]?.resolve();
    while (syncs.length === 1) await sleep(1);
    assert.deepEqual(onDisk, [1]);
    syncs[1]?.resolve();
    await Promise.all(saved);
    assert.deepEqual([onDisk, syncs.length], [[1, 2, 3], 2]);
    await appender.close();
  });

  it('are taken back when they were handed over and the disk then fails to keep them', async () => {
    const path = join(folder, 'unsynced.jsonl');
    const syncs: PromiseWithResolvers<void>[] = [];
    const appender = await appendJsonLines(path, { openFile: withSync(() => heldBack(syncs)) });
    const first = appender.append(1);
    while (syncs.length === 0) await sleep(1);
    syncs[0]?.resolve();
    await first;
    const [second, third] = [await appender.hand(2), await appender.hand(3)];
    while (syncs.length === 1) await sleep(1);
    syncs[1]?.reject(Object.assign(new Error('ENOSPC: no space left on device, fdatasync'), { code: 'ENOSPC' }));
    await Promise.all([second, third].map(({ onDisk }) => assert.rejects(onDisk, DiskFullError)));
    await assert.rejects(appender.hand(4), DiskFullError);
    await appender.close();
    assert.equal(await readFile(path, 'utf8'), '1\n');
  });
});

const heldBack = (syncs: PromiseWithResolvers<void>[]): Promise<void> => {
  const sync = Promise.withResolvers<void>();
  syncs.push(sync);
  return sync.promise;
};

/** A file whose syncs are somebody else's. */
const withSync =
  (datasync: () => Promise<void>) =>
  async (path: string, mode: number): Promise<AppendableFile> =>
    Object.assign(await openFile(path, mode), { datasync });

const openFile = async (path: string, mode: number): Promise<AppendableFile> => {
  const handle = await open(path, 'a+', mode);
  return Object.assign(handle, {
    write: (bytes: Uint8Array, offset: number, length: number) => writeSync(handle.fd, bytes, offset, length),
  });
};

/** A file on a disk with room for so many bytes: takes what fits, then says ENOSPC, as Linux does. */
const smallDisk =
  (roomBytes: number) =>
  async (path: string, mode: number): Promise<AppendableFile> => {
    const file = await openFile(path, mode);
    const write = file.write.bind(file);
    return Object.assign(file, {
      write: (bytes: Uint8Array, offset: number, length: number) => {
        const room = roomBytes - statSync(path).size;
        if (room <= 0) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
        return write(bytes, offset, Math.min(length, room));
      },
    });
  };

describe('lockFolder', () => {
  it('lets one in and names it to the others', async () => {
    const path = join(folder, 'locked');
    const lock = await lockFolder(path);
    await assert.rejects(
      lockFolder(path),
      (thrown) => thrown instanceof FolderInUseError && thrown.message.includes(`Process ${process.pid} `),
    );
    await lock.release();
    await (await lockFolder(path)).release();
    assert.deepEqual(await readdir(path), []);
  });

  it('lets exactly one of many in', async () => {
    const path = join(folder, 'contested');
    await mkdir(path);
    await writeFile(join(path, '.lock'), 'torn{');
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockFolder(path)));
    assert.equal(results.filter((result) => result.status === 'fulfilled').length, 1);
  });

  it('takes over the lock of a process that was killed, and that of a number used again', async () => {
    const path = join(folder, 'killed');
    const module = new URL('../src/base/folder-lock.ts', import.meta.url).href;
    const child = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `const { lockFolder } = await import(${JSON.stringify(module)}); await lockFolder(${JSON.stringify(path)}); console.log('held'); setInterval(() => {}, 1000);`,
    ]);
    await once(child.stdout, 'data');
    await assert.rejects(lockFolder(path), new RegExp(`Process ${child.pid} `));
    child.kill('SIGKILL');
    await once(child, 'exit');
    await (await lockFolder(path)).release();
    if (process.platform !== 'linux') return;
    const { hostname } = await import('node:os');
    await writeFile(join(path, '.lock'), JSON.stringify({ pid: process.pid, host: hostname(), processStart: '1', token: 'x' }));
    await (await lockFolder(path)).release();
  });

  it('does not judge a process of another machine', async () => {
    const path = join(folder, 'remote');
    await mkdir(path);
    await appendFile(join(path, '.lock'), JSON.stringify({ pid: 1, host: 'elsewhere', token: 'x' }));
    await assert.rejects(lockFolder(path), /on elsewhere .* delete/);
  });
});
