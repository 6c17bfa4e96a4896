import { type FloatFormat, floatFormats } from './float-formats.ts';

/** A way in which GGUF stores numbers: blocks of `blockLength` elements in `blockBytes` bytes. */
export interface GgufType {
  readonly name: string;
  readonly blockLength: number;
  readonly blockBytes: number;
  /** Whole blocks to float32. */
  dequantise(bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer>;
}

const float = (name: string, format: FloatFormat): GgufType => ({
  name,
  blockLength: 1,
  blockBytes: format.byteWidth,
  dequantise: (bytes) => format.decode(bytes),
});

/** A type with one float16 scale in front of each block; `fill` writes the block's numbers to `target` from `to` on. */
const blocks = (
  name: string,
  blockLength: number,
  blockBytes: number,
  fill: (bytes: Uint8Array, from: number, half: (position: number) => number, target: Float32Array, to: number) => void,
): GgufType => ({
  name,
  blockLength,
  blockBytes,
  dequantise: (bytes) => {
    const blockCount = bytes.length / blockBytes;
    const target = new Float32Array(blockCount * blockLength);
    const half = (position: number) => halfAt(bytes, position);
    for (let block = 0; block < blockCount; block++) fill(bytes, block * blockBytes, half, target, block * blockLength);
    return target;
  },
});

/** The float16 at a byte position. */
const halfAt = (bytes: Uint8Array, position: number): number => {
  const bits = (bytes[position] ?? 0) | ((bytes[position + 1] ?? 0) << 8);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  // Subnormal: fraction · 2^−24; normal: (1024 + fraction) · 2^(exponent − 25).
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
};

// Block layouts: ggml/src/ggml-common.h (block_q4_0 …); arithmetic: ggml/src/ggml-quants.c (dequantize_row_q4_0 …), which the tests hold
// these to through the Python package gguf. The low half-bytes of a Q4 block are its first 16 elements, the high ones its last 16.

/** d: float16 scale; 16 bytes. x = (q − 8) · d */
const q4_0 = blocks('Q4_0', 32, 18, (bytes, from, half, target, to) => {
  const scale = half(from);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 2 + i] ?? 0;
    target[to + i] = ((pair & 15) - 8) * scale;
    target[to + 16 + i] = ((pair >> 4) - 8) * scale;
  }
});

/** d: float16 scale; m: float16 minimum; 16 bytes. x = q · d + m, the product rounded to float32 as ggml has it */
const q4_1 = blocks('Q4_1', 32, 20, (bytes, from, half, target, to) => {
  const scale = half(from);
  const minimum = half(from + 2);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 4 + i] ?? 0;
    target[to + i] = Math.fround((pair & 15) * scale) + minimum;
    target[to + 16 + i] = Math.fround((pair >> 4) * scale) + minimum;
  }
});

/** d: float16 scale; 32 signed bytes. x = q · d */
const q8_0 = blocks('Q8_0', 32, 34, (bytes, from, half, target, to) => {
  const scale = half(from);
  for (let i = 0; i < 32; i++) target[to + i] = (((bytes[from + 2 + i] ?? 0) << 24) >> 24) * scale;
});

/** The types that retort reads, by the numbers that GGUF gives them (ggml/include/ggml.h, enum ggml_type). */
export const ggufTypes: ReadonlyMap<number, GgufType> = new Map([
  [0, float('F32', floatFormats.F32)],
  [1, float('F16', floatFormats.F16)],
  [2, q4_0],
  [3, q4_1],
  [8, q8_0],
  [30, float('BF16', floatFormats.BF16)],
]);

/** Names of the types that it does not read, for the message. */
export const unsupportedTypeNames: ReadonlyMap<number, string> = new Map([
  [6, 'Q5_0'],
  [7, 'Q5_1'],
  [9, 'Q8_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
  [12, 'Q4_K'],
  [13, 'Q5_K'],
  [14, 'Q6_K'],
  [15, 'Q8_K'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [24, 'I8'],
  [25, 'I16'],
  [26, 'I32'],
  [27, 'I64'],
  [28, 'F64'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);
