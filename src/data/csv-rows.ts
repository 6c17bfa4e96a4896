import { isUtf8 } from 'node:buffer';
import { type CsvError, parse } from 'csv-parse';
import { UserError } from '../base/errors.ts';
import { type ReadableBytes, readByteLines } from '../base/json-lines.ts';
import type { DataRow } from './data-row.ts';

// A quote that is never closed would take the rest of the file for one cell.
const longestRowBytes = 16 * 1024 * 1024;
const batchLength = 1 << 16;

/**
 * The rows of a table in text, by the names in its first line (RFC 4180: quotes, newlines in quotes, CRLF; a byte order mark is fine). Cells
 * are separated by the one of comma, semicolon and tab that the first line has most of. An empty cell is null. `where` names the line that a
 * row begins in.
 */
export async function* csvRows(name: string, open: () => Promise<ReadableBytes>): AsyncGenerator<DataRow> {
  let header: readonly string[] | undefined;
  let line = 1;
  for await (const cells of records(name, open)) {
    const number = line;
    const where = `${name}:${number}`;
    line += 1 + cells.reduce((count, cell) => count + cell.split('\n').length - 1, 0);
    if (cells.length === 1 && cells[0] === '') continue;
    if (header === undefined) {
      header = cells.map((cell) => cell.trim());
      checkHeader(header, where);
    } else {
      if (cells.length !== header.length) {
        throw new UserError(`${where}: ${cells.length} cells, but the first line names ${header.length} columns (${header.join(', ')}).`);
      }
      yield {
        where,
        number,
        value: Object.fromEntries(header.map((column, index) => [column, cells[index] === '' ? null : cells[index]])),
      };
    }
  }
}

const checkHeader = (header: readonly string[], where: string): void => {
  const twice = header.find((column, index) => column !== '' && header.indexOf(column) !== index);
  if (twice !== undefined) throw new UserError(`${where}: the column "${twice}" comes twice. The first line names the columns, each once.`);
};

/** The cells of each record. Records before a mistake come before its error, whatever lies in one batch. */
async function* records(name: string, open: () => Promise<ReadableBytes>): AsyncGenerator<readonly string[]> {
  let parser: ReturnType<typeof parse> | undefined;
  let found: string[][] = [];
  const startParser = (text: string) => {
    const made = parse({
      delimiter: separatorOf(text.slice(0, Math.max(text.indexOf('\n'), 0) || text.length)),
      relax_column_count: true,
      record_delimiter: ['\r\n', '\n'],
      max_record_size: longestRowBytes,
      on_record: (cells: string[]) => {
        found.push(cells);
        return null; // taken from here: a stream drops what it holds when an error comes
      },
    });
    made.on('error', () => undefined); // told by the callbacks below
    return made;
  };
  const taken = (): string[][] => {
    const list = found;
    found = [];
    return list;
  };
  for await (const text of batches(name, open)) {
    parser ??= startParser(text);
    const failure = await written(parser, text);
    yield* taken();
    if (failure !== undefined) throw csvFailure(failure, name);
  }
  if (parser === undefined) return;
  const failure = await ended(parser);
  yield* taken();
  if (failure !== undefined) throw csvFailure(failure, name);
}

const written = (parser: ReturnType<typeof parse>, text: string) =>
  new Promise<Error | undefined>((resolve) => {
    parser.write(text, (error) => resolve(error ?? undefined));
  });

const ended = (parser: ReturnType<typeof parse>) =>
  new Promise<Error | undefined>((resolve) => {
    parser.once('error', resolve);
    parser.once('end', () => resolve(undefined));
    parser.resume();
    parser.end();
  });

/** The text of many lines at a time, checked to be UTF-8, without a byte order mark. */
async function* batches(name: string, open: () => Promise<ReadableBytes>): AsyncGenerator<string> {
  let text = '';
  for await (const { line, bytes, isTerminated } of readByteLines(name, open)) {
    if (!isUtf8(bytes)) throw new UserError(`${name}:${line}: not UTF-8. Save the table in this encoding ("CSV UTF-8" in Excel).`);
    const part = bytes.toString('utf8');
    text += line === 1 && part.startsWith('\uFEFF') ? part.slice(1) : part;
    if (isTerminated) text += '\n';
    if (text.length < batchLength) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

const separatorOf = (firstLine: string): string => {
  const plain = firstLine.replace(/"[^"]*"/g, '');
  const counted = [',', ';', '\t'].map((separator) => ({ separator, count: plain.split(separator).length - 1 }));
  return counted.reduce((best, other) => (other.count > best.count ? other : best)).separator;
};

const csvFailure = (error: Error, name: string): UserError => {
  const { code = '', lines } = error as Partial<CsvError>;
  const where = typeof lines === 'number' ? `${name}:${lines}` : name;
  const advice = code.includes('QUOTE') || code === 'CSV_MAX_RECORD_SIZE' ? ' A quote inside a quoted cell is written twice ("").' : '';
  return new UserError(`${where}: ${error.message}.${advice}`, { cause: error });
};
