import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { downloadFile } from '@huggingface/hub';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import { diskErrorOf, makeFolder } from '../base/folders.ts';
import { type HubConnection, hubFailure, isTransient } from './hub-connection.ts';
import type { HubReference } from './hub-reference.ts';

/** A file of a repository as the hub lists it. */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** Git's SHA-1 of what the repository holds: of a large file a pointer. */
  readonly oid?: string;
  /** SHA-256 of a large file. */
  readonly lfs?: { readonly oid: string };
  /** A large file whose content hash is of another kind; without `lfs` only its size can be checked. */
  readonly xetHash?: string;
}

export interface DownloadProgress {
  readonly file: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface DownloadOptions {
  readonly reference: HubReference;
  readonly commit: string;
  readonly connection: HubConnection;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  readonly sleep?: ((durationMs: number) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const attemptsWithoutProgress = 5;

/**
 * Downloads a file of a repository to `path`. Bytes gather in a `.part` beside it, at which an interrupted download goes on; the file gets its
 * name when its hash is the one that the hub lists.
 */
export const downloadHubFile = async (file: HubFile, path: string, options: DownloadOptions): Promise<void> => {
  const part = `${path}.part`;
  await makeFolder(dirname(path));
  for (let attempt = 1; ; attempt++) {
    const before = await sizeOf(part);
    try {
      await continueDownload(file, part, options);
      if (await isWhole(part, file)) break;
      await rm(part, { force: true });
      if (before === 0) {
        throw new UserError(
          `${file.path} of ${options.reference.name} arrived damaged: its hash is not the one that the hub lists. Try again later.`,
        );
      }
      continue; // what was there before the interruption was wrong; once more from the start
    } catch (error) {
      options.signal?.throwIfAborted();
      const refusal = diskErrorOf(error, part);
      if (refusal !== error) throw refusal;
      if (!isTransient(error) || attempt >= attemptsWithoutProgress) throw hubFailure(error, options.reference, options.connection);
      if ((await sizeOf(part)) > before) attempt = 0;
      await (options.sleep ?? systemClock.sleep)(1000 * 2 ** attempt);
    }
  }
  await rename(part, path);
};

const continueDownload = async (
  file: HubFile,
  part: string,
  { reference, commit, connection, onProgress, signal }: DownloadOptions,
): Promise<void> => {
  if ((await sizeOf(part)) > file.size) await rm(part);
  const begin = await sizeOf(part);
  if (begin === file.size && begin > 0) return;
  // Xet's own protocol would fetch pieces from other hosts with a token of its own; the plain way can be continued at any byte.
  const { url, fetch } = connection;
  const blob = await downloadFile({ repo: reference.name, path: file.path, revision: commit, hubUrl: url, fetch, xet: false });
  if (blob === null) throw new UserError(`${file.path} of ${reference.name} is listed on ${url}, but not there. Try again later.`);
  const handle = await open(part, 'a');
  try {
    let doneBytes = begin;
    for await (const piece of begin === 0 ? blob.stream() : blob.slice(begin, file.size).stream()) {
      signal?.throwIfAborted();
      await handle.appendFile(piece);
      doneBytes += piece.length;
      onProgress?.({ file: file.path, doneBytes, totalBytes: file.size });
      if (doneBytes > file.size) break; // the hash will not fit
    }
    await handle.sync();
    if (doneBytes < file.size) throw new Error(`the connection ended after ${doneBytes} of ${file.size} bytes`);
  } finally {
    await handle.close();
  }
};

const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;

/** Large files are listed with their SHA-256, small ones with git's SHA-1 of "blob SIZE\0CONTENT". */
const isWhole = async (path: string, file: HubFile): Promise<boolean> => {
  if ((await sizeOf(path)) !== file.size) return false;
  if (file.lfs === undefined && file.xetHash !== undefined) return true;
  const hash = createHash(file.lfs === undefined ? 'sha1' : 'sha256');
  if (file.lfs === undefined) hash.update(`blob ${file.size}\0`);
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  return hash.digest('hex') === (file.lfs?.oid ?? file.oid);
};

/** Whether the file lies in the folder in its full size. It got its name only when its hash was right. */
export const isDownloaded = async (folder: string, file: HubFile): Promise<boolean> => {
  const status = await stat(join(folder, file.path)).catch(() => undefined);
  return status?.size === file.size;
};
