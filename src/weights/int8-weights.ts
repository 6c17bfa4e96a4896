import { InternalError } from '../base/errors.ts';

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
