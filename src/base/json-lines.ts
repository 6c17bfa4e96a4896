import { isUtf8 } from 'node:buffer';
import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InternalError, messageOf, UserError } from './errors.ts';
import { DiskFullError, diskErrorOf, hasCode, makeFolder, ownerOnly, syncFolder } from './folders.ts';

/** One line of a JSON-lines file. Lines count from 1, blank ones included, as an editor counts them. */
export interface JsonLine {
  readonly line: number;
  readonly value: unknown;
}

/** The last line of a file whose writer was stopped in the middle of it. */
export interface TornLine {
  readonly line: number;
  /** Its beginning, for a message. */
  readonly excerpt: string;
}

export interface ReadJsonLinesOptions {
  /** Told of a torn last line, which is otherwise left out. Pass `refuseTornLine(path)` for files that are not written by `appendJsonLines`. */
  readonly onTorn?: (torn: TornLine) => void;
  /** Opens the bytes, where they do not lie in a file at the path. */
  readonly open?: () => Promise<ReadableBytes>;
}

/** Bytes that are read from the first to the last. */
export interface ReadableBytes {
  /** Fills a beginning of `target` and returns its length; 0 at the end. */
  read(target: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/**
 * The values of a JSON-lines file in order, a chunk of the file in memory at a time. A byte order mark, CRLF and blank lines are fine. A
 * last line without a newline that is not JSON is torn: reported, not thrown. Any other line that is not JSON throws with its number.
 */
export async function* readJsonLines(path: string, options: ReadJsonLinesOptions = {}): AsyncGenerator<JsonLine> {
  for await (const { line, text, isTerminated, isUtf8: isText } of readTextLines(path, options.open)) {
    if (isTerminated && !isText) throw new UserError(`${path}:${line}: not UTF-8. Save the file in this encoding.`);
    if (text.trim() === '') continue;
    if (!isTerminated && !isJson(text)) {
      options.onTorn?.({ line, excerpt: excerptOf(text) });
      return;
    }
    yield { line, value: parseJsonLine(text, path, line) };
  }
}

/** The value of a line, or an error that names it. */
export const parseJsonLine = (text: string, path: string, line: number): unknown => {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new UserError(`${path}:${line}: expected a line of JSON, came ${excerptOf(text)} (${messageOf(thrown)}).`);
  }
};

/** Whether a text is whole JSON. */
export const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/** For `onTorn`: a torn last line is an error. */
export const refuseTornLine =
  (path: string) =>
  (torn: TornLine): never => {
    throw new UserError(`${path}:${torn.line}: the last line is not whole JSON: ${torn.excerpt}. Complete or delete it.`);
  };

/** Appends values, one line each. */
export interface JsonLinesAppender {
  /** Resolves when the line is on the disk, not merely handed to the system. */
  append(value: unknown): Promise<void>;
  /** Resolves when the line is handed to the system, so that it outlives this process. Whoever calls it awaits `onDisk` too, which may reject. */
  hand(value: unknown): Promise<HandedLine>;
  /** Waits for what was appended, then closes. */
  close(): Promise<void>;
}

export interface HandedLine {
  /** Resolves when the line outlives the machine's power, too. */
  readonly onDisk: Promise<void>;
}

export interface AppendJsonLinesOptions {
  /** Permissions of the file; the owner's alone when absent, since lines hold texts. */
  readonly mode?: number;
  /** Told of a torn last line that an earlier writer left; it is cut off before anything is appended. */
  readonly onTorn?: (torn: TornLine) => void;
  /** The disk, for tests of a full one. */
  readonly openFile?: (path: string, mode: number) => Promise<AppendableFile>;
}

/** What the appender needs of a file that was opened for reading and appending. */
export interface AppendableFile extends Pick<FileHandle, 'read' | 'stat' | 'truncate' | 'datasync' | 'close'> {
  /**
   * Hands a piece of the bytes to the system and returns how much of it was taken. At once: to copy some kilobytes takes 20 µs, and to wait
   * for another thread to do it some milliseconds in a busy process.
   */
  write(bytes: Uint8Array, offset: number, length: number): number;
}

/**
 * Opens a JSON-lines file for appending, creating it and its folder. Lines that arrive in one turn of the event loop go
 * out in one write, and those written while a sync is under way in the next sync, so that thousands a second cost a few hundred syncs. After a
 * failed write or sync the file is cut back to its last whole line and every further call fails with the same error.
 */
export const appendJsonLines = async (path: string, options: AppendJsonLinesOptions = {}): Promise<JsonLinesAppender> => {
  await makeFolder(dirname(path));
  const openFile = options.openFile ?? openForAppending;
  let file: AppendableFile;
  try {
    file = await openFile(path, options.mode ?? ownerOnly);
  } catch (thrown) {
    throw diskErrorOf(thrown, path);
  }
  let sizeBytes: number;
  try {
    sizeBytes = await mendEnd(file, path, options.onTorn);
    await syncFolder(dirname(path));
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
  return appenderOf(file, path, sizeBytes);
};

interface WaitingLine {
  readonly text: string;
  readonly resolve: (handed: HandedLine) => void;
  readonly reject: (reason: unknown) => void;
}

const appenderOf = (file: AppendableFile, path: string, initialSizeBytes: number): JsonLinesAppender => {
  let writtenBytes = initialSizeBytes;
  let syncedBytes = initialSizeBytes;
  let waiting: WaitingLine[] = [];
  let writing: Promise<void> | undefined;
  /** Of the lines that were written since the last sync began. */
  let unsynced: PromiseWithResolvers<void> | undefined;
  let syncing: Promise<void> | undefined;
  let failure: unknown;
  let isClosed = false;

  const writeWaiting = async (): Promise<void> => {
    while (waiting.length > 0) {
      await nextTurn();
      const lines = waiting;
      waiting = [];
      try {
        if (failure !== undefined) throw failure;
        writtenBytes += await writeWhole(file, Buffer.from(lines.map(({ text }) => text).join('')), writtenBytes);
        unsynced ??= Promise.withResolvers<void>();
        const handed = { onDisk: unsynced.promise };
        for (const line of lines) line.resolve(handed);
        syncing ??= syncWritten();
      } catch (thrown) {
        failure ??= diskErrorOf(thrown, path);
        for (const line of lines) line.reject(failure);
      }
    }
    writing = undefined;
  };

  const rejectUnsynced = (): void => {
    unsynced?.reject(failure);
    unsynced = undefined;
  };

  const syncWritten = async (): Promise<void> => {
    for (let round = unsynced; round !== undefined; round = unsynced) {
      unsynced = undefined;
      const sizeBytes = writtenBytes;
      try {
        await file.datasync();
        syncedBytes = sizeBytes;
        round.resolve();
      } catch (thrown) {
        failure ??= diskErrorOf(thrown, path);
        await writing; // Nothing more is written now that it failed.
        await file.truncate(syncedBytes).catch(() => undefined);
        round.reject(failure);
        rejectUnsynced();
      }
    }
    syncing = undefined;
  };

  const hand = (value: unknown): Promise<HandedLine> => {
    if (isClosed) return Promise.reject(new InternalError(`append to ${path} after it was closed`));
    if (failure !== undefined) return Promise.reject(failure);
    const text = JSON.stringify(value);
    if (text === undefined) return Promise.reject(new InternalError(`a value that JSON cannot hold was appended to ${path}`));
    return new Promise((resolve, reject) => {
      waiting.push({ text: `${text}\n`, resolve, reject });
      writing ??= writeWaiting();
    });
  };

  return {
    hand,
    append: async (value) => (await hand(value)).onDisk,
    close: async () => {
      if (isClosed) return;
      isClosed = true;
      await writing;
      await syncing;
      await file.close();
    },
  };
};

/** Writes all the bytes, or cuts the file back to `sizeBytes` and throws. */
const writeWhole = async (file: AppendableFile, bytes: Buffer, sizeBytes: number): Promise<number> => {
  try {
    // A nearly full disk takes a part and reports how much.
    for (let offset = 0; offset < bytes.length; ) {
      const bytesWritten = file.write(bytes, offset, bytes.length - offset);
      if (bytesWritten === 0) throw new DiskFullError('the disk takes no more bytes');
      offset += bytesWritten;
    }
    return bytes.length;
  } catch (thrown) {
    await file.truncate(sizeBytes).catch(() => undefined); // The next opening mends it if even that fails.
    throw thrown;
  }
};

const openForAppending = async (path: string, mode: number): Promise<AppendableFile> => {
  const handle = await open(path, 'a+', mode);
  // The file may be older than this run and open to others.
  if (process.platform !== 'win32') await handle.chmod(mode).catch(() => undefined);
  return Object.assign(handle, {
    write: (bytes: Uint8Array, offset: number, length: number) => writeSync(handle.fd, bytes, offset, length),
  });
};

/** Makes the file end in a newline: completes a last line that is whole JSON, cuts off one that is not. Returns its size. */
const mendEnd = async (file: AppendableFile, path: string, onTorn: AppendJsonLinesOptions['onTorn']): Promise<number> => {
  const { size } = await file.stat();
  const tail = await readTail(file, size);
  if (tail.length === 0) return size;
  const text = tail.toString('utf8');
  if (isJson(text)) {
    await writeWhole(file, Buffer.from('\n'), size);
    await file.datasync();
    return size + 1;
  }
  const line = await countLines(path);
  await file.truncate(size - tail.length);
  onTorn?.({ line, excerpt: excerptOf(text) });
  return size - tail.length;
};

/** The bytes after the last newline. */
const readTail = async (file: AppendableFile, sizeBytes: number): Promise<Buffer> => {
  const chunkBytes = 1 << 16;
  let tail = Buffer.alloc(0);
  for (let end = sizeBytes; end > 0; ) {
    const start = Math.max(0, end - chunkBytes);
    const chunk = Buffer.alloc(end - start);
    await file.read(chunk, 0, chunk.length, start);
    const newlineIndex = chunk.lastIndexOf(0x0a);
    tail = Buffer.concat([chunk.subarray(newlineIndex + 1), tail]);
    if (newlineIndex >= 0) break;
    end = start;
  }
  return tail;
};

const countLines = async (path: string): Promise<number> => {
  let last = 0;
  for await (const { line } of readTextLines(path)) last = line;
  return last;
};

/** A line of a file as its bytes, without the newline. They are a view into what was read and good until the next line. */
export interface ByteLine {
  readonly line: number;
  readonly bytes: Buffer;
  /** Whether a newline follows; the last line of a file may lack it. */
  readonly isTerminated: boolean;
}

/** The lines of a file as bytes, a chunk in memory at a time: a chunk may end in the middle of a character, never of a newline. */
export async function* readByteLines(path: string, open = () => openForReading(path)): AsyncGenerator<ByteLine> {
  const file = await open();
  // One buffer for the whole file: a stream's chunks of a large one pile up faster than they are collected.
  const chunk = Buffer.allocUnsafe(1 << 18);
  let line = 0;
  let pieces: Buffer[] = [];
  try {
    for (;;) {
      const bytesRead = await file.read(chunk);
      if (bytesRead === 0) break;
      let start = 0;
      for (let end = chunk.indexOf(0x0a); end >= 0 && end < bytesRead; end = chunk.indexOf(0x0a, start)) {
        const bytes = chunk.subarray(start, end);
        yield { line: ++line, bytes: pieces.length === 0 ? bytes : Buffer.concat([...pieces, bytes]), isTerminated: true };
        pieces = [];
        start = end + 1;
      }
      if (start < bytesRead) pieces.push(Buffer.from(chunk.subarray(start, bytesRead)));
    }
  } catch (thrown) {
    if (hasCode(thrown, 'EISDIR')) throw new UserError(`Expected a JSON-lines file at ${path}, but it is a folder.`);
    throw thrown;
  } finally {
    await file.close();
  }
  if (pieces.length > 0) yield { line: ++line, bytes: Buffer.concat(pieces), isTerminated: false };
}

const openForReading = async (path: string): Promise<ReadableBytes> => {
  try {
    const handle = await open(path, 'r');
    return { read: async (target) => (await handle.read(target)).bytesRead, close: () => handle.close() };
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) throw new UserError(`No file at ${path}. Check the path.`);
    throw thrown;
  }
};

interface TextLine {
  readonly line: number;
  readonly text: string;
  readonly isTerminated: boolean;
  readonly isUtf8: boolean;
}

async function* readTextLines(path: string, open?: () => Promise<ReadableBytes>): AsyncGenerator<TextLine> {
  for await (const { line, bytes, isTerminated } of readByteLines(path, open)) {
    const text = bytes.toString('utf8');
    yield { line, text: line === 1 && text.startsWith('\uFEFF') ? text.slice(1) : text, isTerminated, isUtf8: isUtf8(bytes) };
  }
}

const excerptOf = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
