import { randomUUID } from 'node:crypto';
import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { UserError } from './errors.ts';
import { hasCode, makeFolder, ownerOnly } from './folders.ts';

/** Another process works in the folder. */
export class FolderInUseError extends UserError {
  override name = 'FolderInUseError';
}

/** Held until released, or until the process ends in whatever way. */
export interface FolderLock {
  release(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

interface LockHolder {
  readonly pid: number;
  readonly host: string;
  /** The process's start in clock ticks since boot where the system tells it: a number used again is another process. */
  readonly processStart: string | undefined;
  readonly token: string;
}

const lockName = '.lock';

/**
 * Makes sure that one process at a time writes to a folder. The lock is a file that names its holder; the lock of a process that is gone
 * is taken over. Throws a FolderInUseError that names the process otherwise. `mode`: permissions of the folder where it is new.
 */
export const lockFolder = async (folder: string, mode?: number): Promise<FolderLock> => {
  await makeFolder(folder, mode);
  const path = join(folder, lockName);
  const own: LockHolder = { pid: process.pid, host: hostname(), processStart: await processStartOf(process.pid), token: randomUUID() };
  // Twice is enough when the holder is gone; more attempts only lose to others who want the folder at the same moment.
  for (let attempt = 0; attempt < 5; attempt++) {
    if (await createLock(path, own)) {
      const release = () => removeOwnLock(path, own);
      return { release, [Symbol.asyncDispose]: release };
    }
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const holder = parseHolder(text);
    if (holder !== undefined && (await isAlive(holder, own.host))) throw new FolderInUseError(inUseMessage(folder, path, holder, own.host));
    await removeStaleLock(path, text);
  }
  throw new FolderInUseError(`Several processes want to write to ${folder} at once. Let one of them finish first.`);
};

/** A whole draft gets the lock's name, which fails where the name is taken: nobody ever sees a lock without its holder. */
const createLock = async (path: string, own: LockHolder): Promise<boolean> => {
  const draft = `${path}.${own.token}`;
  await writeFile(draft, JSON.stringify(own), { mode: ownerOnly });
  try {
    await link(draft, path);
    return true;
  } catch (thrown) {
    if (hasCode(thrown, 'EEXIST')) return false;
    // FAT and some network file systems know no links: there the name appears a moment before its content.
    if (hasCode(thrown, 'EPERM', 'ENOTSUP', 'ENOSYS', 'EOPNOTSUPP')) return createExclusively(path, own);
    throw thrown;
  } finally {
    await unlink(draft).catch(() => undefined);
  }
};

const createExclusively = async (path: string, own: LockHolder): Promise<boolean> => {
  try {
    await writeFile(path, JSON.stringify(own), { flag: 'wx', mode: ownerOnly });
    return true;
  } catch (thrown) {
    if (hasCode(thrown, 'EEXIST')) return false;
    throw thrown;
  }
};

/**
 * Moves the lock aside and looks at what was moved: only the very lock that was judged stale is thrown away. One that somebody created in
 * between is put back.
 */
const removeStaleLock = async (path: string, staleText: string): Promise<void> => {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return;
    throw thrown;
  }
  if ((await readFile(aside, 'utf8')) === staleText) await unlink(aside);
  else await rename(aside, path);
};

const removeOwnLock = async (path: string, own: LockHolder): Promise<void> => {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text !== undefined && parseHolder(text)?.token === own.token) await unlink(path);
};

const parseHolder = (text: string): LockHolder | undefined => {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, host, processStart, token } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof host !== 'string' || typeof token !== 'string') return undefined;
    return { pid, host, token, processStart: typeof processStart === 'string' ? processStart : undefined };
  } catch {
    return undefined; // Torn by a power cut: nobody holds it.
  }
};

/** A holder on another machine cannot be asked: it counts as alive. */
const isAlive = async (holder: LockHolder, ownHost: string): Promise<boolean> => {
  if (holder.host !== ownHost) return true;
  try {
    process.kill(holder.pid, 0);
  } catch (thrown) {
    return hasCode(thrown, 'EPERM'); // It exists and belongs to somebody else.
  }
  return holder.processStart === undefined || holder.processStart === (await processStartOf(holder.pid));
};

/** Field 22 of /proc/PID/stat (proc(5)), counted after the command's closing bracket since a command may hold blanks. */
const processStartOf = async (pid: number): Promise<string | undefined> => {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
};

const inUseMessage = (folder: string, path: string, holder: LockHolder, ownHost: string): string =>
  holder.host === ownHost
    ? `Process ${holder.pid} is writing to ${folder}. Wait for it, stop it, or name another folder.`
    : `Process ${holder.pid} on ${holder.host} is writing to ${folder}. If it is gone for certain, delete ${path} and try again.`;
