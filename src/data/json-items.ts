import { messageOf, UserError } from '../base/errors.ts';
import type { ByteFile } from '../weights/byte-file.ts';
import type { DataRow } from './data-row.ts';

// Node's texts end at half a gigabyte.
const longestBytes = 500_000_000;

/** The items of a JSON list. It is read whole: JSON lines are the form for what is large. */
export async function* jsonItems(file: ByteFile): AsyncGenerator<DataRow> {
  const { path, sizeBytes } = file;
  if (sizeBytes > longestBytes) {
    throw new UserError(
      `${path} is one JSON list of ${Math.round(sizeBytes / 1e6)} MB. Write it as JSON lines, which are read line by line.`,
    );
  }
  const bytes = new Uint8Array(sizeBytes);
  await file.readInto(bytes, 0, 'its content');
  const items = parseList(bytes, path);
  for (const [index, value] of items.entries()) yield { where: `${path}, item ${index + 1}`, number: index + 1, value };
}

const parseList = (bytes: Uint8Array, path: string): readonly unknown[] => {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (thrown) {
    throw new UserError(`${path}: not UTF-8. Save the file in this encoding.`, { cause: thrown });
  }
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value;
  } catch (thrown) {
    throw new UserError(`${path}: expected a JSON list of objects: ${messageOf(thrown)}.`, { cause: thrown });
  }
  throw new UserError(`${path}: expected a JSON list of objects.`);
};
