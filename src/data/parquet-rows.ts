import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { messageOf, UserError } from '../base/errors.ts';
import type { ByteFile } from '../weights/byte-file.ts';
import type { DataRow } from './data-row.ts';

/**
 * The rows of a Parquet file as JSON would hold them, a row group in memory at a time. Where `columns` are given and all there, only those
 * are read; else all, so that what is missing can be told from what there is.
 */
export async function* parquetRows(file: ByteFile, columns?: readonly string[]): AsyncGenerator<DataRow> {
  const buffer = bufferOf(file);
  const metadata = await told(file, 'its footer', () => parquetMetadataAsync(buffer));
  const wanted = columnsOf(metadata, columns);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await told(file, `rows ${rowStart + 1} to ${rowEnd}`, () =>
      parquetReadObjects({
        file: buffer,
        metadata,
        rowStart,
        rowEnd,
        compressors,
        parsers,
        ...(wanted !== undefined && { columns: wanted }),
      }),
    );
    for (const [index, row] of rows.entries()) {
      const number = rowStart + index + 1;
      yield { where: `${file.path}, row ${number}`, number, value: plain(row) };
    }
    rowStart = rowEnd;
  }
}

const bufferOf = (file: ByteFile): AsyncBuffer => ({
  byteLength: file.sizeBytes,
  slice: async (start, end = file.sizeBytes) => {
    const bytes = new Uint8Array(end - start);
    await file.readInto(bytes, start, 'its content');
    return bytes.buffer;
  },
});

const columnsOf = (metadata: FileMetaData, columns: readonly string[] | undefined): string[] | undefined => {
  const present = new Set(parquetSchema(metadata).children.map(({ element }) => element.name));
  return columns?.every((name) => present.has(name)) === true ? [...columns] : undefined;
};

/** What the library throws says what is wrong, but not where. */
const told = async <T>(file: ByteFile, what: string, read: () => Promise<T>): Promise<T> => {
  try {
    return await read();
  } catch (thrown) {
    if (thrown instanceof UserError || (thrown instanceof Error && thrown.name === 'AbortError')) throw thrown;
    throw new UserError(
      `${file.path}: ${what} cannot be read: ${messageOf(thrown)}. The file is damaged, or of a kind that retort does not read.`,
      {
        cause: thrown,
      },
    );
  }
};

/** A byte order mark at the beginning of a text belongs to it, and bytes that are no text are not guessed at. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && decoder.decode(bytes) };

/** Whole numbers of 64 bits and times, which JSON has not, as numbers and texts. */
const plain = (value: unknown): unknown => {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value === undefined) return null;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]));
};
