import { type FileHandle, mkdtemp, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { InternalError, UserError } from '../base/errors.ts';
import { DiskFullError, diskErrorOf, hasCode, makeFolder, sha256 } from '../base/folders.ts';
import { bytesPerElement, elementCount, float32, type HostData, type TensorType } from '../graph/tensor-type.ts';
import { defaultCacheFolder } from './cache-folder.ts';
import type { StoredTensor, TensorSource } from './tensor-source.ts';

/** Where a tensor lies in the flat file, in bytes: row-major, little-endian. */
export interface PreparedTensor {
  readonly offset: number;
  readonly byteLength: number;
  readonly shape: readonly number[];
}

/** What the file holds: tensors that are made of a model's own, a few at a time. */
export interface PreparedLayout {
  /** Tells layouts of one model apart. */
  readonly name: string;
  readonly parts: readonly PreparedPart[];
}

/** Tensors that are made together, from what is read once. */
export interface PreparedPart {
  readonly tensors: readonly (TensorType & { readonly name: string })[];
  /** The data of `tensors`, in their order. */
  make(read: (name: string) => Promise<Float32Array>): Promise<readonly HostData[]>;
}

/** All tensors of a model in one file, as ONNX Runtime maps external data. */
export interface PreparedWeights {
  readonly folder: string;
  readonly file: string;
  readonly tensors: ReadonlyMap<string, PreparedTensor>;
  /** Whether the file was there already. */
  readonly wasCached: boolean;
}

export interface PrepareOptions {
  /** Absent: every floating-point tensor as float32. */
  readonly layout?: PreparedLayout;
  /** Absent: `defaultCacheFolder()`. */
  readonly cacheFolder?: string;
  /** When the cache grows beyond it, what was not used for longest is removed. */
  readonly limitBytes?: number;
  /** Told after each converted tensor. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly now?: () => number;
}

/** Raised when the layout of the file or what is written into it changes. */
const formatVersion = 1;
const alignmentBytes = 4096; // the page size: a mapping begins at a page
const defaultLimitBytes = 50 * 1024 ** 3;
/** Another process may have asked for a file and not mapped it yet; drafts may still be written. Both are left alone for this long. */
const graceMs = 60 * 60 * 1000;
const fileName = 'weights.bin';
const indexName = 'index.json';
const draftPrefix = 'draft-';

const indexSchema = z.object({
  formatVersion: z.literal(formatVersion),
  fingerprint: z.string(),
  sizeBytes: z.number(),
  tensors: z.record(z.string(), z.object({ offset: z.number(), byteLength: z.number(), shape: z.array(z.number()) })),
});
type Index = z.infer<typeof indexSchema>;

/**
 * The tensors of a source as one flat file in the cache, converted when it is not there yet, one part in memory at a time. The entry appears
 * whole or not at all, also when two processes make it at once.
 */
export const prepareWeights = async (source: TensorSource, options: PrepareOptions = {}): Promise<PreparedWeights> => {
  const cache = resolve(options.cacheFolder ?? defaultCacheFolder(), 'weights'); // ONNX Runtime wants to be told a whole path
  const now = options.now ?? Date.now;
  const fingerprint = await source.fingerprint();
  const layout = options.layout ?? floatLayout(source);
  const named = layout.name === floatLayoutName ? '' : `\n${layout.name}`;
  const key = sha256(`${formatVersion}\n${fingerprint}${named}`).slice(0, 32);
  const folder = join(cache, key);
  const cached = await readEntry(folder, now);
  if (cached !== undefined) return { ...preparedFrom(folder, cached), wasCached: true };
  const index = indexOf(layout, fingerprint);
  await inCache(cache, index.sizeBytes, async () => {
    await makeFolder(cache);
    const draft = await mkdtemp(join(cache, draftPrefix));
    try {
      await writeTensors(join(draft, fileName), { source, layout, index, onProgress: options.onProgress });
      await writeFile(join(draft, indexName), JSON.stringify(index));
      await moveUnlessThere(draft, folder, now);
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  });
  await cleanPreparedWeights({ cacheFolder: join(cache, '..'), limitBytes: options.limitBytes ?? defaultLimitBytes, now });
  return { ...preparedFrom(folder, index), wasCached: false };
};

/** Turns what the disk refuses (full, read-only, no rights) into a message that says what to do. */
const inCache = async (cache: string, sizeBytes: number, work: () => Promise<void>): Promise<void> => {
  try {
    await work();
  } catch (error) {
    const refusal = diskErrorOf(error, cache);
    if (!(refusal instanceof UserError) || refusal === error) throw refusal;
    const Refusal = refusal instanceof DiskFullError ? DiskFullError : UserError;
    const advice = `The converted weights take ${(sizeBytes / 1e9).toFixed(2)} GB; RETORT_CACHE may name a folder on another disk.`;
    throw new Refusal(`${refusal.message} ${advice}`, { cause: error });
  }
};

/**
 * The move is the moment at which the entry exists. An entry that another process put there first is as good, unless it is damaged: that
 * one is moved aside, so that at no moment a whole entry is missing.
 */
const moveUnlessThere = async (draft: string, folder: string, now: () => number): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await rename(draft, folder);
    } catch (error) {
      if (!hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EPERM', 'EACCES') || attempt === 3) throw error;
      if ((await readEntry(folder, now)) !== undefined) return;
      await rename(folder, `${draft}-damaged`);
      await rm(`${draft}-damaged`, { recursive: true, force: true });
    }
  }
};

const isFloating = ({ storage }: StoredTensor): boolean => !/^(?:[IU]\d+|BOOL)$/.test(storage);

const floatLayoutName = 'float32';

/** Every tensor as float32 under its own name. Integer tensors (position ids) are left out. */
export const floatLayout = (source: Pick<TensorSource, 'names'>, includes: (name: string) => boolean = () => true): PreparedLayout => ({
  name: floatLayoutName,
  parts: [...source.names]
    .filter(([name, tensor]) => isFloating(tensor) && includes(name))
    .map(([name, { shape }]) => ({ tensors: [{ name, ...float32(...shape) }], make: async (read) => [await read(name)] })),
});

const indexOf = (layout: PreparedLayout, fingerprint: string): Index => {
  let offset = 0;
  const tensors: Index['tensors'] = {};
  for (const { name, dataType, shape } of layout.parts.flatMap((part) => part.tensors)) {
    const byteLength = elementCount(shape) * bytesPerElement[dataType];
    tensors[name] = { offset, byteLength, shape: [...shape] };
    offset += Math.ceil(byteLength / alignmentBytes) * alignmentBytes;
  }
  return { formatVersion, fingerprint, sizeBytes: offset, tensors };
};

interface Writing {
  readonly source: TensorSource;
  readonly layout: PreparedLayout;
  readonly index: Index;
  readonly onProgress: PrepareOptions['onProgress'];
}

const writeTensors = async (path: string, { source, layout, index, onProgress }: Writing): Promise<void> => {
  const handle = await open(path, 'wx');
  try {
    for (const part of layout.parts) {
      const made = await part.make((name) => source.read(name));
      for (const [place, { name }] of part.tensors.entries()) {
        const { offset, byteLength } = index.tensors[name] as PreparedTensor;
        const data = made[place];
        if (data?.byteLength !== byteLength) {
          throw new InternalError(`"${name}" was made of ${data?.byteLength ?? 0} bytes, its type wants ${byteLength}`);
        }
        await writeFully(handle, new Uint8Array(data.buffer, data.byteOffset, byteLength), offset);
        onProgress?.(offset + byteLength, index.sizeBytes);
      }
    }
    await handle.truncate(index.sizeBytes); // the padding after the last tensor
    await handle.sync(); // else a power cut after the rename could leave zeros that look like weights
  } finally {
    await handle.close();
  }
};

const writeFully = async (handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(64 * 1024 * 1024, bytes.length - done), offset + done);
    done += bytesWritten;
  }
};

/** A whole entry, marked as used now; undefined if there is none or it is damaged. */
const readEntry = async (folder: string, now: () => number): Promise<Index | undefined> => {
  const path = join(folder, indexName);
  try {
    const index = indexSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    const { size } = await stat(join(folder, fileName));
    if (size !== index.sizeBytes) return undefined;
    const seconds = now() / 1000;
    await utimes(path, seconds, seconds);
    return index;
  } catch {
    return undefined; // whatever is wrong with it, making it anew mends it
  }
};

const preparedFrom = (folder: string, index: Index) => ({
  folder,
  file: join(folder, fileName),
  tensors: new Map(Object.entries(index.tensors)),
});

/** An entry of the cache, for `retort doctor`. */
export interface CacheEntry {
  readonly folder: string;
  readonly sizeBytes: number;
  readonly lastUsedMs: number;
  /** Left over from a process that ended while it was converting. */
  readonly isDraft: boolean;
}

/** What the cache of converted weights holds, least recently used first. */
export const listPreparedWeights = async (cacheFolder: string = defaultCacheFolder()): Promise<CacheEntry[]> => {
  const cache = join(cacheFolder, 'weights');
  const names = await readdir(cache).catch(() => []);
  const entries = await Promise.all(names.map((name) => describeEntry(join(cache, name), name.startsWith(draftPrefix))));
  return entries.filter((entry) => entry !== undefined).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
};

const describeEntry = async (folder: string, isDraft: boolean): Promise<CacheEntry | undefined> => {
  try {
    const parts = await Promise.all((await readdir(folder)).map((name) => stat(join(folder, name))));
    const whole = await stat(folder);
    return {
      folder,
      sizeBytes: parts.reduce((sum, part) => sum + part.size, 0),
      lastUsedMs: Math.max(...parts.map((part) => part.mtimeMs), parts.length === 0 ? whole.mtimeMs : 0),
      isDraft,
    };
  } catch {
    return undefined; // removed by another process meanwhile
  }
};

export interface CleanOptions {
  readonly cacheFolder?: string;
  readonly limitBytes: number;
  readonly now?: () => number;
}

/**
 * Removes abandoned drafts, then what was not used for longest, until the cache is within the limit. What was used in the last hour stays.
 * Returns what was removed.
 */
export const cleanPreparedWeights = async (options: CleanOptions): Promise<CacheEntry[]> => {
  const entries = await listPreparedWeights(options.cacheFolder);
  const isOld = (entry: CacheEntry) => (options.now ?? Date.now)() - entry.lastUsedMs > graceMs;
  let total = entries.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  const removed: CacheEntry[] = [];
  for (const entry of entries) {
    if (!isOld(entry) || !(entry.isDraft || total > options.limitBytes)) continue;
    try {
      await removeEntry(entry.folder);
    } catch {
      continue; // in use where files in use cannot be removed (Windows); the next cleaning tries again
    }
    total -= entry.sizeBytes;
    removed.push(entry);
  }
  return removed;
};

/** The index goes first, so that a removal that is interrupted leaves no entry that looks whole. */
const removeEntry = async (folder: string): Promise<void> => {
  await rm(join(folder, indexName), { force: true });
  await rm(folder, { recursive: true, force: true });
};
