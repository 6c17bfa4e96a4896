import { createHash, hash, randomUUID } from 'node:crypto';
import { mkdir, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { messageOf, UserError } from './errors.ts';

/** The disk, or this user's share of it, is full. What was written before is whole. */
export class DiskFullError extends UserError {
  override name = 'DiskFullError';
}

/** Readable and writable by the owner alone: for whatever holds texts of questions and answers. */
export const ownerOnly = 0o600;

/** Readable by everybody: for models and adapters, which others load. */
export const forEverybody = 0o644;

/** The same for a folder. */
export const ownerOnlyFolder = 0o700;

export interface WriteFileOptions {
  /** Permissions of the file; the owner's alone when absent, since most of what is written holds texts. */
  readonly mode?: number;
}

/**
 * Writes a file whole or not at all: a draft beside it, synced to the disk, then renamed. Readers see the old file or the new one, also
 * after a power cut. Creates the folder. Write a folder's manifest last: what has one is complete.
 */
export const writeFileAtomic = async (path: string, data: string | Uint8Array, options: WriteFileOptions = {}): Promise<void> => {
  const folder = dirname(path);
  await makeFolder(folder);
  const draft = join(folder, `.${basename(path)}.${process.pid}.${randomUUID().slice(0, 8)}.draft`);
  try {
    const handle = await open(draft, 'wx', options.mode ?? ownerOnly);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameWhenFree(draft, path);
  } catch (thrown) {
    await unlink(draft).catch(() => undefined);
    throw diskErrorOf(thrown, path);
  }
  await syncFolder(folder);
};

/** `writeFileAtomic` of a value as JSON with two spaces, which people can read and compare. */
export const writeJsonAtomic = (path: string, value: unknown, options: WriteFileOptions = {}): Promise<void> =>
  writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`, options);

/** Creates a folder and those above it; `mode` is for those that are new, as the system sets it when absent. A file in the way is the user's mistake. */
export const makeFolder = async (folder: string, mode?: number): Promise<void> => {
  try {
    await mkdir(folder, { recursive: true, ...(mode !== undefined && { mode }) });
  } catch (thrown) {
    if (hasCode(thrown, 'EEXIST', 'ENOTDIR'))
      throw new UserError(`Expected a folder at ${folder}, but a file is in the way. Move it or name another folder.`);
    throw diskErrorOf(thrown, folder);
  }
};

/** SHA-256 of a file's bytes in hexadecimal, read piece by piece. */
export const sha256OfFile = async (path: string): Promise<string> => {
  const digest = createHash('sha256');
  const file = await open(path, 'r');
  try {
    const chunk = Buffer.allocUnsafe(1 << 20);
    for (;;) {
      const { bytesRead } = await file.read(chunk, 0, chunk.length);
      if (bytesRead === 0) return digest.digest('hex');
      digest.update(chunk.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
};

/** SHA-256 of a text or bytes in hexadecimal. */
export const sha256 = (data: string | Uint8Array): string => hash('sha256', data, 'hex');

/**
 * A path below a folder from a name that came with data (an id, a strategy's name). A name that would lead out of the folder, or into a
 * hidden file, is refused.
 */
export const pathWithin = (folder: string, name: string): string => {
  const path = resolve(folder, name);
  const inside = relative(resolve(folder), path);
  if (
    name === '' ||
    inside === '' ||
    inside.startsWith('..') ||
    isAbsolute(inside) ||
    /[\0\\]/.test(name) ||
    basename(path).startsWith('.')
  )
    throw new UserError(`The name ${JSON.stringify(name)} does not lead to a file in ${folder}. Use letters, digits, '-', '_' and '.'.`);
  return path;
};

/** Whether something thrown carries one of these system error codes. */
export const hasCode = (thrown: unknown, ...codes: readonly string[]): boolean =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' && codes.includes(thrown.code);

/** What the disk said, as an error that tells the user what to do; anything unknown is handed back as it came. */
export const diskErrorOf = (thrown: unknown, path: string): unknown => {
  if (hasCode(thrown, 'ENOSPC', 'EDQUOT', 'EFBIG'))
    return new DiskFullError(
      `No room left to write ${path} (${messageOf(thrown)}). What was written before is whole: make room and run the same command again.`,
    );
  if (hasCode(thrown, 'EACCES', 'EPERM', 'EROFS'))
    return new UserError(`Not allowed to write ${path} (${messageOf(thrown)}). Change its permissions or name another folder.`);
  return thrown;
};

/** On Windows a virus scanner or a reader can hold the target for a moment: tried for about two seconds. */
const renameWhenFree = async (from: string, to: string): Promise<void> => {
  for (let waitMs = 10; ; waitMs *= 2) {
    try {
      return await rename(from, to);
    } catch (thrown) {
      if (process.platform !== 'win32' || waitMs > 1000 || !hasCode(thrown, 'EPERM', 'EACCES', 'EBUSY')) throw thrown;
      await sleepFor(waitMs);
    }
  }
};

/** Makes a new name in a folder survive a power cut. Windows cannot sync folders and need not. */
export const syncFolder = async (folder: string): Promise<void> => {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (thrown) {
    // Some network and FUSE file systems refuse to sync a folder; they order their writes themselves.
    if (!hasCode(thrown, 'EINVAL', 'ENOTSUP', 'EPERM', 'EBADF')) throw thrown;
  } finally {
    await handle.close();
  }
};
