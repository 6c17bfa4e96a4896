import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';

/** A file open for reading by range. */
export interface ByteFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Fills `target` from `offset`, or throws a `UserError` that says what was being read when the file ended. */
  readInto(target: Uint8Array, offset: number, what: string): Promise<void>;
  close(): Promise<void>;
}

// One read call of Node takes at most 2³¹−1 bytes; larger tensors are read in pieces of this size.
const pieceBytes = 64 * 1024 * 1024;

/** Opens a file; a missing or unreadable one is a `UserError`. */
export const openByteFile = async (path: string): Promise<ByteFile> => {
  const handle = await openForReading(path);
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw new UserError(`${path} is not a file.`);
    return {
      path,
      sizeBytes: status.size,
      readInto: (target, offset, what) => readRange(handle, path, target, offset, what),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
};

const openForReading = async (path: string): Promise<FileHandle> => {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw new UserError(`Cannot open ${path}: ${messageOf(error)}`, { cause: error });
  }
};

const readRange = async (handle: FileHandle, path: string, target: Uint8Array, offset: number, what: string): Promise<void> => {
  let done = 0;
  while (done < target.byteLength) {
    const length = Math.min(pieceBytes, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, length, offset + done).catch((error: unknown) => {
      throw new UserError(`Cannot read ${what} of ${path}: ${messageOf(error)}`, { cause: error });
    });
    if (bytesRead === 0) {
      throw new UserError(
        `${path} ends inside ${what}: expected ${target.byteLength} bytes at offset ${offset}, got ${done}. ` +
          'The file is cut short; download or copy it again.',
      );
    }
    done += bytesRead;
  }
};

/** A function that gives SHA-256 over name, size and whole content of the files, in the order given, computed at its first call. */
export const fingerprinter = (files: readonly ByteFile[]): (() => Promise<string>) => {
  let computed: Promise<string> | undefined;
  return () => {
    computed ??= fingerprintOf(files);
    return computed;
  };
};

const fingerprintOf = async (files: readonly ByteFile[]): Promise<string> => {
  const hash = createHash('sha256');
  for (const file of files) {
    hash.update(JSON.stringify([basename(file.path), file.sizeBytes]));
    await addContent(hash, file);
  }
  return hash.digest('hex');
};

const addContent = async (hash: Hash, file: ByteFile): Promise<void> => {
  const piece = new Uint8Array(Math.min(4 * 1024 * 1024, file.sizeBytes));
  for (let offset = 0; offset < file.sizeBytes; offset += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, file.sizeBytes - offset));
    await file.readInto(part, offset, 'its content');
    hash.update(part);
  }
};
