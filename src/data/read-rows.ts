import { stat } from 'node:fs/promises';
import { UserError } from '../base/errors.ts';
import { type ReadableBytes, readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { ByteFile } from '../weights/byte-file.ts';
import { byteStream } from './byte-stream.ts';
import { csvRows } from './csv-rows.ts';
import type { DataRow } from './data-row.ts';
import { jsonItems } from './json-items.ts';
import { type DataAccess, type DataFile, openData } from './open-data.ts';
import { parquetRows } from './parquet-rows.ts';

export interface ReadRowsOptions {
  /** What the split is called. */
  readonly split: string;
  /** What the data are for, in messages. */
  readonly what: string;
  /** The columns that are looked at; absent: all. */
  readonly columns?: readonly string[] | undefined;
  readonly access?: DataAccess | undefined;
}

/**
 * The rows of a split of a data set, one after the other: of a file (JSON lines, a JSON list, CSV, TSV, Parquet), of a folder's
 * `<split>.jsonl` and its like, or of `hub:owner/name`. No more is read than is taken, and never a whole file but a JSON list.
 */
export async function* readRows(source: string, options: ReadRowsOptions): AsyncGenerator<DataRow> {
  if (await isPipe(source)) return yield* jsonLines(source);
  let before = 0;
  for (const file of await openData(source, options.split, options.what, options.access)) {
    options.access?.signal?.throwIfAborted();
    let last = 0;
    for await (const row of rowsOf(file, options.columns)) {
      last = row.number;
      yield { ...row, number: before + last };
    }
    before += last;
  }
}

async function* rowsOf({ name, open }: DataFile, columns: readonly string[] | undefined): AsyncGenerator<DataRow> {
  const file = { ...(await open()), path: name };
  try {
    const kind = await kindOf(file);
    const stream = async () => byteStream(file);
    if (kind === 'parquet') yield* parquetRows(file, columns);
    else if (kind === 'csv') yield* csvRows(name, stream);
    else if (kind === 'json') yield* jsonItems(file);
    else yield* jsonLines(name, stream);
  } finally {
    await file.close();
  }
}

async function* jsonLines(name: string, open?: () => Promise<ReadableBytes>): AsyncGenerator<DataRow> {
  const options = { onTorn: refuseTornLine(name), ...(open !== undefined && { open }) };
  for await (const { line, value } of readJsonLines(name, options)) yield { where: `${name}:${line}`, number: line, value };
}

/** By its first bytes, and by its name where those say nothing. */
const kindOf = async (file: ByteFile): Promise<'parquet' | 'csv' | 'json' | 'lines'> => {
  const head = new Uint8Array(Math.min(64, file.sizeBytes));
  await file.readInto(head, 0, 'its beginning');
  const text = Buffer.from(head).toString('latin1');
  if (text.startsWith('PAR1')) return 'parquet';
  if (file.path.endsWith('.parquet')) throw new UserError(`${file.path} is no Parquet file: it does not begin with PAR1.`);
  if (/^(?:\xff\xfe|\xfe\xff)/.test(text)) throw new UserError(`${file.path} is UTF-16. Save it as UTF-8.`);
  if (text.startsWith('\x1f\x8b') || text.startsWith('\x28\xb5\x2f\xfd'))
    throw new UserError(`${file.path} is compressed. Unpack it first.`);
  if (/\.[ct]sv$/i.test(file.path)) return 'csv';
  return /^(?:\xef\xbb\xbf)?\s*\[/.test(text) ? 'json' : 'lines';
};

const isPipe = async (source: string): Promise<boolean> => {
  const found = source.startsWith('hub:') ? undefined : await stat(source).catch(() => undefined);
  return found !== undefined && !found.isFile() && !found.isDirectory();
};
