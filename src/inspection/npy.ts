import { readFile } from 'node:fs/promises';
import { UserError } from '../base/errors.ts';

/** An array of a .npy file, row-major, as float32. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const magic = '\u0093NUMPY';

/** Bytes and reader of each element type; little-endian, as numpy writes on every machine of today. */
const elementTypes: Readonly<Record<string, { readonly sizeBytes: number; readonly read: (view: DataView, offset: number) => number }>> = {
  '<f4': { sizeBytes: 4, read: (view, offset) => view.getFloat32(offset, true) },
  '<f8': { sizeBytes: 8, read: (view, offset) => view.getFloat64(offset, true) },
  '<f2': { sizeBytes: 2, read: (view, offset) => halfOf(view.getUint16(offset, true)) },
};

/** Reads an array of numpy's own format (numpy.lib.format, versions 1 to 3): float16, float32 or float64, row-major. */
export const readNpy = async (path: string): Promise<NpyArray> => {
  const bytes = await readFile(path);
  if (bytes.length < 12 || bytes.toString('latin1', 0, 6) !== magic)
    throw new UserError(`${path} is no .npy file: it does not begin with \\x93NUMPY.`);
  const isFirstVersion = bytes[6] === 1;
  const headerStart = isFirstVersion ? 10 : 12;
  const headerEnd = headerStart + (isFirstVersion ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8));
  const header = bytes.toString('utf8', headerStart, Math.min(headerEnd, bytes.length));
  const descriptor = /'descr'\s*:\s*'([^']*)'/.exec(header)?.[1] ?? '';
  const element = elementTypes[descriptor];
  const shapeText = /'shape'\s*:\s*\(([^)]*)\)/.exec(header)?.[1];
  if (element === undefined) {
    throw new UserError(
      `${path}: elements of type ${descriptor || 'unknown'}; expected ${Object.keys(elementTypes).join(', ')}. Save it with .astype('float32').`,
    );
  }
  if (shapeText === undefined) throw new UserError(`${path}: the header names no shape: ${header.slice(0, 80)}`);
  if (/'fortran_order'\s*:\s*True/.test(header)) throw new UserError(`${path}: column-major; save it with numpy.ascontiguousarray.`);
  const shape = shapeText.split(',').flatMap((part) => (part.trim() === '' ? [] : [Number(part)]));
  const count = shape.reduce((product, size) => product * size, 1);
  if (bytes.length - headerEnd !== count * element.sizeBytes) {
    throw new UserError(
      `${path}: [${shape.join(', ')}] of ${descriptor} takes ${count * element.sizeBytes} bytes, and ${bytes.length - headerEnd} are there: it is cut off or damaged.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + headerEnd);
  return { shape, data: Float32Array.from({ length: count }, (_, index) => element.read(view, index * element.sizeBytes)) };
};

/** IEEE 754 binary16. */
const halfOf = (bits: number): number => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
};
