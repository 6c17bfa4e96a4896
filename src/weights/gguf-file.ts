import { InternalError, messageOf, UserError } from '../base/errors.ts';
import { elementCount } from '../graph/tensor-type.ts';
import type { ByteFile } from './byte-file.ts';
import { type GgufType, ggufTypes, unsupportedTypeNames } from './gguf-types.ts';

/** A value of GGUF metadata. 64-bit integers beyond 2⁵³ lose their last bits; none that retort reads is that large. */
export type GgufValue = number | boolean | string | readonly GgufValue[];

/** Where a tensor lies. `shape` is row-major, outermost first: the reverse of GGUF's own order. */
export interface GgufEntry {
  readonly shape: readonly number[];
  readonly type: GgufType;
  readonly begin: number;
  readonly end: number;
}

export interface GgufHeader {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file's bytes, under the names that the file gives them. */
  readonly entries: ReadonlyMap<string, GgufEntry>;
}

// The header holds the vocabulary, so it is a few MB; the first reading takes this much and each further one four times as much.
const firstReadingBytes = 4 * 1024 * 1024;
const maximumHeaderBytes = 1024 * 1024 * 1024;

/**
 * Reads the metadata and the table of tensors (GGUF versions 2 and 3, little-endian; ggml/docs/gguf.md). The tensors' bytes stay on disk.
 * Every defect is a `UserError` that names the file and, where there is one, the key or the tensor.
 */
export const readGgufHeader = async (file: ByteFile): Promise<GgufHeader> => {
  for (let wanted = firstReadingBytes; ; wanted *= 4) {
    const bytes = new Uint8Array(Math.min(wanted, file.sizeBytes, maximumHeaderBytes));
    await file.readInto(bytes, 0, 'the header');
    const cursor = cursorOver(bytes, file);
    try {
      return parseHeader(cursor, file);
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error;
      if (bytes.length === file.sizeBytes) {
        throw new UserError(`${file.path} is cut short: it ends inside ${cursor.what()}. Download or copy it again.`);
      }
      if (bytes.length === maximumHeaderBytes) throw new UserError(`${file.path}: the header is longer than ${maximumHeaderBytes} bytes.`);
    }
  }
};

/** The bytes read so far are too few. Never leaves this file. */
class EndOfBytes extends Error {}

/** Reads little-endian values one after the other. */
interface Cursor {
  readonly u8: () => number;
  readonly i8: () => number;
  readonly u16: () => number;
  readonly i16: () => number;
  readonly u32: () => number;
  readonly i32: () => number;
  readonly u64: () => number;
  readonly i64: () => number;
  readonly f32: () => number;
  readonly f64: () => number;
  readonly text: () => string;
  readonly position: () => number;
  /** Says what is read next, for the message about a file that ends there; without an argument, what was said last. */
  readonly what: (description?: string) => string;
  readonly fail: (problem: string) => never;
}

const cursorOver = (bytes: Uint8Array<ArrayBuffer>, file: ByteFile): Cursor => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let position = 0;
  let description = 'its first bytes';
  const take = (length: number): number => {
    if (position + length > bytes.length) {
      // Read further only if the file can hold it; else a wild length would make us read all of it.
      if (position + length > file.sizeBytes)
        fail(`it ends inside ${description} (a length of ${length} bytes). It is cut short or damaged`);
      throw new EndOfBytes();
    }
    position += length;
    return position - length;
  };
  const fail = (problem: string): never => {
    throw new UserError(`${file.path}: ${problem}.`);
  };
  const u64 = () => Number(view.getBigUint64(take(8), true));
  return {
    u8: () => view.getUint8(take(1)),
    i8: () => view.getInt8(take(1)),
    u16: () => view.getUint16(take(2), true),
    i16: () => view.getInt16(take(2), true),
    u32: () => view.getUint32(take(4), true),
    i32: () => view.getInt32(take(4), true),
    u64,
    i64: () => Number(view.getBigInt64(take(8), true)),
    f32: () => view.getFloat32(take(4), true),
    f64: () => view.getFloat64(take(8), true),
    text: () => {
      const length = u64();
      const begin = take(length);
      try {
        return decoder.decode(bytes.subarray(begin, begin + length));
      } catch (error) {
        return fail(`${description} is not UTF-8 (${messageOf(error)})`);
      }
    },
    position: () => position,
    what: (next) => {
      if (next !== undefined) description = next;
      return description;
    },
    fail,
  };
};

const parseHeader = (cursor: Cursor, file: ByteFile): GgufHeader => {
  const magic = cursor.u32();
  if (magic !== 0x46554747) cursor.fail('this is no GGUF file: it does not begin with "GGUF"'); // the bytes G, G, U, F
  const version = cursor.u32();
  if (version === 0x02000000 || version === 0x03000000) cursor.fail('this GGUF is big-endian; retort reads little-endian ones');
  if (version !== 2 && version !== 3) cursor.fail(`GGUF version ${version}; retort reads versions 2 and 3`);
  const tensorCount = cursor.u64();
  const metadataCount = cursor.u64();
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < metadataCount; index++) {
    cursor.what(`the name of metadata entry ${index + 1} of ${metadataCount}`);
    const key = cursor.text();
    if (metadata.has(key)) cursor.fail(`metadata key ${key} is there twice`);
    cursor.what(`the value of metadata key ${key}`);
    metadata.set(key, readValue(cursor, cursor.u32()));
  }
  const alignment = alignmentOf(metadata, cursor);
  const rows: TensorRow[] = [];
  for (let index = 0; index < tensorCount; index++) rows.push(readTensorRow(cursor, index, tensorCount));
  const dataBegin = Math.ceil(cursor.position() / alignment) * alignment;
  return { path: file.path, metadata, entries: entriesOf(rows, dataBegin, alignment, file) };
};

const alignmentOf = (metadata: ReadonlyMap<string, GgufValue>, cursor: Cursor): number => {
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment === 'number' && alignment > 0 && alignment % 8 === 0) return alignment;
  return cursor.fail(`general.alignment is ${String(alignment)}, expected a multiple of 8`);
};

const arrayTag = 9;

/** By GGUF's value type number; 9, an array, is read apart. */
const valueReaders: readonly (((cursor: Cursor) => GgufValue) | undefined)[] = [
  (cursor) => cursor.u8(),
  (cursor) => cursor.i8(),
  (cursor) => cursor.u16(),
  (cursor) => cursor.i16(),
  (cursor) => cursor.u32(),
  (cursor) => cursor.i32(),
  (cursor) => cursor.f32(),
  (cursor) => cursor.u8() !== 0,
  (cursor) => cursor.text(),
  undefined,
  (cursor) => cursor.u64(),
  (cursor) => cursor.i64(),
  (cursor) => cursor.f64(),
];

const readValue = (cursor: Cursor, tag: number): GgufValue => {
  if (tag !== arrayTag) {
    const read = valueReaders[tag];
    return read === undefined ? cursor.fail(`${cursor.what()} has the unknown type number ${tag}`) : read(cursor);
  }
  const itemTag = cursor.u32();
  const read = valueReaders[itemTag];
  if (read === undefined) return cursor.fail(`${cursor.what()} is an array of the unsupported type number ${itemTag}`);
  const length = cursor.u64();
  const items: GgufValue[] = [];
  for (let index = 0; index < length; index++) items.push(read(cursor));
  return items;
};

interface TensorRow {
  readonly name: string;
  readonly shape: readonly number[];
  readonly typeNumber: number;
  readonly offset: number;
}

const readTensorRow = (cursor: Cursor, index: number, tensorCount: number): TensorRow => {
  cursor.what(`the name of tensor ${index + 1} of ${tensorCount}`);
  const name = cursor.text();
  cursor.what(`the table entry of tensor ${name}`);
  const rank = cursor.u32();
  if (rank > 4) cursor.fail(`tensor ${name} has ${rank} dimensions; GGUF allows 4`);
  const innermostFirst = Array.from({ length: rank }, () => cursor.u64());
  return { name, shape: innermostFirst.reverse(), typeNumber: cursor.u32(), offset: cursor.u64() };
};

const entriesOf = (rows: readonly TensorRow[], dataBegin: number, alignment: number, file: ByteFile): Map<string, GgufEntry> => {
  const entries = new Map<string, GgufEntry>();
  let position = dataBegin;
  let previous = 'the header';
  for (const row of [...rows].sort((a, b) => a.offset - b.offset)) {
    const fail = (problem: string): never => {
      throw new UserError(`Tensor ${row.name} of ${file.path}: ${problem}`);
    };
    const type = ggufTypes.get(row.typeNumber) ?? fail(unsupportedType(row.typeNumber));
    if (entries.has(row.name)) fail('its name is there twice.');
    const rowLength = row.shape.at(-1) ?? 1;
    if (rowLength % type.blockLength !== 0) fail(`rows of ${rowLength} do not divide into ${type.name}'s blocks of ${type.blockLength}.`);
    const begin = dataBegin + row.offset;
    const end = begin + (elementCount(row.shape) / type.blockLength) * type.blockBytes;
    if (row.offset % alignment !== 0) fail(`its offset ${row.offset} is no multiple of the alignment ${alignment}.`);
    if (!Number.isSafeInteger(end)) fail(`its size [${row.shape.join(', ')}] is impossible.`);
    if (begin < position) fail(`it overlaps ${previous}.`);
    if (end > file.sizeBytes) {
      fail(`it should end at byte ${end}, but the file has ${file.sizeBytes}. The file is cut short; download or copy it again.`);
    }
    entries.set(row.name, { shape: row.shape, type, begin, end });
    position = end;
    previous = `tensor ${row.name}`;
  }
  return entries;
};

const unsupportedType = (typeNumber: number): string => {
  const name = unsupportedTypeNames.get(typeNumber) ?? `number ${typeNumber}`;
  const supported = [...ggufTypes.values()].map((type) => type.name).join(', ');
  return `type ${name} is not supported. Supported: ${supported}. Use a file in one of these, or the safetensors of the same model.`;
};

/** A metadata value of the kind that is expected, or undefined where the key is absent. Another kind is a `UserError`. */
export const metadataReader = (header: GgufHeader) => {
  const typed =
    <T>(is: (value: GgufValue) => value is GgufValue & T, expected: string) =>
    (key: string): T | undefined => {
      const value = header.metadata.get(key);
      if (value === undefined || is(value)) return value;
      throw new UserError(`${header.path}: metadata key ${key} is ${JSON.stringify(value).slice(0, 60)}, expected ${expected}.`);
    };
  return {
    number: typed((value) => typeof value === 'number', 'a number'),
    boolean: typed((value) => typeof value === 'boolean', 'true or false'),
    string: typed((value) => typeof value === 'string', 'a text'),
    strings: typed((value): value is readonly string[] => Array.isArray(value) && value.every((item) => typeof item === 'string'), 'texts'),
    numbers: typed(
      (value): value is readonly number[] => Array.isArray(value) && value.every((item) => typeof item === 'number'),
      'numbers',
    ),
  };
};

export type MetadataReader = ReturnType<typeof metadataReader>;

/** The value, or a `UserError` that the key is missing. */
export const required = <T>(value: T | undefined, key: string, path: string): T => {
  if (value !== undefined) return value;
  if (key === '') throw new InternalError('a metadata key without a name');
  throw new UserError(`${path} has no metadata key ${key}, which is needed to use the file without a config.json beside it.`);
};
