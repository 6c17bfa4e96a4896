import { messageOf, UserError } from '../base/errors.ts';
import { elementCount } from '../graph/tensor-type.ts';
import type { ByteFile } from './byte-file.ts';

/** One tensor of a safetensors file; `begin` and `end` are offsets in the file, not in its data section. */
export interface SafetensorsEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In the order of the file's bytes. */
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The reference implementation refuses larger headers (`safetensors/src/tensor.rs`, MAX_HEADER_SIZE), and so do we. */
const maximumHeaderBytes = 100_000_000;

/** Bits per element of every dtype that safetensors 0.8 knows (`safetensors/src/tensor.rs`, Dtype::bitsize). */
const bitWidths: Readonly<Record<string, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/**
 * Reads and checks a header: 8 bytes little-endian length, JSON, then the tensors' bytes without holes or overlaps up to the end of the
 * file. Every defect is a `UserError` that names the file and, where there is one, the tensor.
 */
export const readSafetensorsHeader = async (file: ByteFile): Promise<SafetensorsHeader> => {
  const lengthBytes = new Uint8Array(8);
  await file.readInto(lengthBytes, 0, 'the header length');
  const headerBytes = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  if (headerBytes > BigInt(maximumHeaderBytes)) {
    throw new UserError(
      `${file.path} is no safetensors file: its header would be ${headerBytes} bytes long, the limit is ${maximumHeaderBytes}. ` +
        'Is it another format, or a Git LFS pointer instead of the file?',
    );
  }
  const text = new Uint8Array(Number(headerBytes));
  await file.readInto(text, 8, 'the header');
  const { tensors, metadata } = parseHeaderText(text, file.path);
  const dataBegin = 8 + text.length;
  const entries = tensors
    .map(([name, value]) => [name, parseEntry(value, name, file.path, dataBegin)] as const)
    .sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkRanges(entries, dataBegin, file);
  return { entries: new Map(entries), metadata };
};

const parseHeaderText = (bytes: Uint8Array, path: string) => {
  let header: unknown;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (error) {
    throw new UserError(`The header of ${path} is not JSON (${messageOf(error)}). Is it a safetensors file?`, { cause: error });
  }
  if (!isRecord(header)) throw new UserError(`The header of ${path} is not a JSON object. Is it a safetensors file?`);
  const duplicate = duplicateOf(topLevelKeys(text));
  if (duplicate !== undefined) throw new UserError(`The header of ${path} has the tensor ${duplicate} twice.`);
  const { __metadata__: metadata = {}, ...tensors } = header;
  if (!isStringRecord(metadata)) throw new UserError(`__metadata__ in the header of ${path} is not an object of strings.`);
  return { tensors: Object.entries(tensors), metadata };
};

const parseEntry = (value: unknown, name: string, path: string, dataBegin: number): SafetensorsEntry => {
  const fail = (problem: string): never => {
    throw new UserError(`Tensor ${name} of ${path}: ${problem}`);
  };
  if (!isRecord(value)) return fail('its header entry is not an object.');
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string') return fail('its header entry has no dtype.');
  if (!isSizeList(shape)) return fail(`its shape is ${JSON.stringify(shape)}, expected a list of sizes.`);
  if (!isSizeList(offsets) || offsets[0] === undefined || offsets[1] === undefined || offsets.length !== 2 || offsets[0] > offsets[1]) {
    return fail(`its data_offsets are ${JSON.stringify(offsets)}, expected [begin, end].`);
  }
  const bitWidth = Object.hasOwn(bitWidths, dtype) ? bitWidths[dtype] : undefined;
  if (bitWidth === undefined) return fail(`its dtype ${dtype} is unknown.`);
  const expectedBytes = (elementCount(shape) * bitWidth) / 8;
  if (offsets[1] - offsets[0] !== expectedBytes) {
    return fail(`${dtype} [${shape.join(', ')}] takes ${expectedBytes} bytes, but the header gives it ${offsets[1] - offsets[0]}.`);
  }
  return { dtype, shape, begin: dataBegin + offsets[0], end: dataBegin + offsets[1] };
};

const checkRanges = (entries: readonly (readonly [string, SafetensorsEntry])[], dataBegin: number, file: ByteFile): void => {
  let position = dataBegin;
  for (const [name, entry] of entries) {
    if (entry.begin < position) throw new UserError(`Tensor ${name} of ${file.path} overlaps another: it begins inside it.`);
    if (entry.begin > position) throw new UserError(`${file.path} has a hole of ${entry.begin - position} bytes before tensor ${name}.`);
    if (entry.end > file.sizeBytes) {
      throw new UserError(
        `${file.path} is cut short: tensor ${name} should end at byte ${entry.end}, but the file has ${file.sizeBytes} bytes. ` +
          'Download or copy it again.',
      );
    }
    position = entry.end;
  }
  if (position !== file.sizeBytes) {
    throw new UserError(`${file.path} has ${file.sizeBytes - position} bytes after its last tensor that belong to none. It is damaged.`);
  }
};

/** The keys of a JSON object in the order of its text, duplicates included (`JSON.parse` keeps the last one in silence). */
const topLevelKeys = (json: string): string[] => {
  const keys: string[] = [];
  let depth = 0;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"(?:\s*:)?|[[\]{}]/g)) {
    if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') depth--;
    else if (depth === 1 && token.endsWith(':')) keys.push(String(JSON.parse(token.slice(0, -1))));
  }
  return keys;
};

const duplicateOf = (keys: readonly string[]): string | undefined => {
  const seen = new Set<string>();
  return keys.find((key) => seen.size === seen.add(key).size);
};

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const isStringRecord = (value: unknown): value is Record<string, string> =>
  isRecord(value) && Object.values(value).every((item) => typeof item === 'string');

const isSizeList = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
