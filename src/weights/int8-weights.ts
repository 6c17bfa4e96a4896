import { InternalError } from '../base/errors.ts';
import { float32, type HostData } from '../graph/tensor-type.ts';
import { type ByteForm, backwardBytesName, forwardBytesName, headNames, scaleName } from '../nn/int8-linear.ts';
import type { PreparedLayout, PreparedPart } from './prepared-weights.ts';
import { floatLayout } from './prepared-weights.ts';
import type { TensorSource } from './tensor-source.ts';

/** A matrix in 8 bits, and the scale of each column: W[i, j] ≈ bytes[i, j] · scales[j]. Row-major. */
export interface ByteMatrix {
  readonly bytes: Int8Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>;
}

/** max|column| / 127; 1 where a column is all zeros. */
const columnScales = (matrix: Float32Array, columnCount: number): Float32Array<ArrayBuffer> => {
  const scales = new Float32Array(columnCount);
  for (let start = 0; start < matrix.length; start += columnCount) {
    for (let column = 0; column < columnCount; column++) {
      const magnitude = Math.abs(matrix[start + column] as number);
      if (magnitude > (scales[column] as number)) scales[column] = magnitude;
    }
  }
  return scales.map((greatest) => (greatest === 0 ? 1 : greatest / 127));
};

/** Rounds a matrix to 8 bits with a scale for each column. Throws an InternalError where a number is not finite. */
export const roundedColumns = (matrix: Float32Array, columnCount: number): ByteMatrix => {
  const scales = columnScales(matrix, columnCount);
  if (!scales.every(Number.isFinite)) throw new InternalError('a matrix with numbers that are not finite cannot be rounded to 8 bits');
  const bytes = new Int8Array(matrix.length);
  for (let start = 0; start < matrix.length; start += columnCount) {
    for (let column = 0; column < columnCount; column++) {
      bytes[start + column] = Math.round((matrix[start + column] as number) / (scales[column] as number));
    }
  }
  return { bytes, scales };
};

/** [rows, columns] to [columns, rows]. */
export const transposed = (matrix: Float32Array, columnCount: number): Float32Array => {
  const rowCount = matrix.length / columnCount;
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rowCount; row++) {
    for (let column = 0; column < columnCount; column++) result[column * rowCount + row] = matrix[row * columnCount + column] as number;
  }
  return result;
};

/** The same numbers around 128 as uint8. */
export const unsigned = (bytes: Int8Array): Uint8Array<ArrayBuffer> => Uint8Array.from(bytes, (value) => value + 128);

/** A linear layer's name and [outputs, inputs]. */
export type LinearShapes = ReadonlyMap<string, readonly [number, number]>;

/**
 * A model whose linear layers are bytes, as `nn/int8-linear.ts` asks for them: each module for the forward product, each group for the way
 * back. Everything else is float32.
 */
export const int8Layout = (
  source: Pick<TensorSource, 'names'>,
  groups: readonly (readonly string[])[],
  shapes: LinearShapes,
  head: string,
  form: ByteForm,
): PreparedLayout => {
  const inGroups = new Set(groups.flat().map((module) => `${module}.weight`));
  return {
    name: `linear layers and head as ${form}, both ways`,
    parts: [
      ...floatLayout(source, (name) => !inGroups.has(name)).parts,
      headPart(head, source.names.get(head)?.shape as readonly [number, number], form),
      ...groups.map((group) => groupPart(group, shapes, form)),
    ],
  };
};

/** A matrix as bytes and the scales of its columns. */
const named = (name: string, form: ByteForm, rows: number, columns: number) => [
  { name, dataType: form, shape: [rows, columns] },
  { name: scaleName(name), ...float32(columns) },
];

const signed = (bytes: Int8Array<ArrayBuffer>, form: ByteForm): HostData => (form === 'int8' ? bytes : unsigned(bytes));

const headPart = (head: string, [vocabularySize, width]: readonly [number, number], form: ByteForm): PreparedPart => {
  const names = headNames(head);
  return {
    tensors: [
      { name: names.mean, ...float32(width) },
      ...named(names.forward, form, width, vocabularySize),
      ...named(names.backward, form, vocabularySize, width),
    ],
    make: async (read) => {
      const matrix = await read(head);
      const mean = new Float64Array(width);
      matrix.forEach((value, index) => {
        mean[index % width] = (mean[index % width] as number) + value / vocabularySize;
      });
      const rounded = Float32Array.from(mean);
      const centred = matrix.map((value, index) => value - (rounded[index % width] as number));
      const forward = roundedColumns(transposed(centred, width), vocabularySize);
      const backward = roundedColumns(centred, width);
      return [rounded, signed(forward.bytes, form), forward.scales, signed(backward.bytes, form), backward.scales];
    },
  };
};

const groupPart = (group: readonly string[], shapes: LinearShapes, form: ByteForm): PreparedPart => {
  const sizes = group.map((module) => {
    const shape = shapes.get(module);
    if (shape === undefined) throw new InternalError(`no linear layer is called "${module}"`);
    return shape;
  });
  const inputCount = sizes[0]?.[1] ?? 0;
  const outputCount = sizes.reduce((sum, [outputs]) => sum + outputs, 0);
  return {
    tensors: [
      ...group.flatMap((module, index) => named(forwardBytesName(module), form, inputCount, sizes[index]?.[0] ?? 0)),
      ...named(backwardBytesName(group), form, outputCount, inputCount),
    ],
    make: async (read) => {
      const below = new Float32Array(outputCount * inputCount); // the group's matrices below each other
      const made: HostData[] = [];
      let start = 0;
      for (const [index, module] of group.entries()) {
        const matrix = await read(`${module}.weight`);
        below.set(matrix, start);
        start += matrix.length;
        const { bytes, scales } = roundedColumns(transposed(matrix, inputCount), sizes[index]?.[0] ?? 0);
        made.push(signed(bytes, form), scales);
      }
      const { bytes, scales } = roundedColumns(below, inputCount);
      return [...made, signed(bytes, form), scales];
    },
  };
};
