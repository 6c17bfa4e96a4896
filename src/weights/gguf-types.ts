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
// these to through the Python package gguf. The low half-bytes of a Q4 or Q5 block are its first 16 elements, the high ones its last 16.
// Every product of a float16 and integers below is exact in float32 up to the last operation, so that float64 rounds once, as ggml does.

/** d: float16 scale; 16 bytes. x = (q − 8) · d */
const q4_0 = blocks('Q4_0', 32, 18, (bytes, from, half, target, to) => {
  const scale = half(from);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 2 + i] ?? 0;
    target[to + i] = ((pair & 15) - 8) * scale;
    target[to + 16 + i] = ((pair >> 4) - 8) * scale;
  }
});

/** d: float16 scale; m: float16 minimum; 16 bytes. x = q · d + m */
const q4_1 = blocks('Q4_1', 32, 20, (bytes, from, half, target, to) => {
  const scale = half(from);
  const minimum = half(from + 2);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 4 + i] ?? 0;
    target[to + i] = (pair & 15) * scale + minimum;
    target[to + 16 + i] = (pair >> 4) * scale + minimum;
  }
});

/** The fifth bits of a Q5 block as one number: bit i belongs to element i. */
const fifthBits = (bytes: Uint8Array, position: number): number =>
  (bytes[position] ?? 0) | ((bytes[position + 1] ?? 0) << 8) | ((bytes[position + 2] ?? 0) << 16) | ((bytes[position + 3] ?? 0) << 24);

/** d: float16 scale; 4 bytes of fifth bits; 16 bytes. x = (q − 16) · d */
const q5_0 = blocks('Q5_0', 32, 22, (bytes, from, half, target, to) => {
  const scale = half(from);
  const high = fifthBits(bytes, from + 2);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 6 + i] ?? 0;
    target[to + i] = ((pair & 15) + 16 * ((high >>> i) & 1) - 16) * scale;
    target[to + 16 + i] = ((pair >> 4) + 16 * ((high >>> (i + 16)) & 1) - 16) * scale;
  }
});

/** d: float16 scale; m: float16 minimum; 4 bytes of fifth bits; 16 bytes. x = q · d + m */
const q5_1 = blocks('Q5_1', 32, 24, (bytes, from, half, target, to) => {
  const scale = half(from);
  const minimum = half(from + 2);
  const high = fifthBits(bytes, from + 4);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 8 + i] ?? 0;
    target[to + i] = ((pair & 15) + 16 * ((high >>> i) & 1)) * scale + minimum;
    target[to + 16 + i] = ((pair >> 4) + 16 * ((high >>> (i + 16)) & 1)) * scale + minimum;
  }
});

/** d: float16 scale; 32 signed bytes. x = q · d */
const q8_0 = blocks('Q8_0', 32, 34, (bytes, from, half, target, to) => {
  const scale = half(from);
  for (let i = 0; i < 32; i++) target[to + i] = (((bytes[from + 2 + i] ?? 0) << 24) >> 24) * scale;
});

/**
 * The six-bit scale and minimum of each eighth of a K block, packed in 12 bytes: the first four in the low six bits of bytes 0–3 and 4–7,
 * the others with their low four bits in bytes 8–11 and their high two in the rest of the first eight (ggml-quants.c, get_scale_min_k4).
 */
const sixBits = (bytes: Uint8Array, from: number, eighth: number): { readonly scale: number; readonly minimum: number } => {
  const byte = (index: number) => bytes[from + index] ?? 0;
  if (eighth < 4) return { scale: byte(eighth) & 63, minimum: byte(eighth + 4) & 63 };
  return {
    scale: (byte(eighth + 4) & 15) | ((byte(eighth - 4) >> 6) << 4),
    minimum: (byte(eighth + 4) >> 4) | ((byte(eighth) >> 6) << 4),
  };
};

/**
 * Q4_K and Q5_K: d, dmin: float16; 12 bytes of scales; (Q5_K: 32 bytes of fifth bits;) 128 bytes. Eighths of 32 elements lie in pairs, the
 * first in the low half-bytes. x = q · (d · scale) − dmin · minimum
 */
const k4or5 = (name: string, blockBytes: number, highBytes: 0 | 32): GgufType =>
  blocks(name, 256, blockBytes, (bytes, from, half, target, to) => {
    const [d, dmin] = [half(from), half(from + 2)];
    for (let eighth = 0; eighth < 8; eighth++) {
      const { scale, minimum } = sixBits(bytes, from + 4, eighth);
      const low = from + 16 + highBytes + 32 * (eighth >> 1);
      for (let i = 0; i < 32; i++) {
        const four = ((bytes[low + i] ?? 0) >> (4 * (eighth & 1))) & 15;
        const fifth = highBytes === 0 ? 0 : ((bytes[from + 16 + i] ?? 0) >> eighth) & 1;
        target[to + 32 * eighth + i] = (four + 16 * fifth) * (d * scale) - dmin * minimum;
      }
    }
  });

/**
 * 128 bytes of low half-bytes; 64 bytes of high pairs of bits; 16 signed scales; d: float16. In each half of 128 elements, quarter by quarter of
 * 32: low half-bytes 0–31, 32–63, then the high half-bytes of both; bits 0–1, 2–3, 4–5, 6–7. x = d · scale · (q − 32)
 */
const q6_k = blocks('Q6_K', 256, 210, (bytes, from, half, target, to) => {
  const d = half(from + 208);
  for (let quarter = 0; quarter < 8; quarter++) {
    const within = quarter % 4;
    const low = from + 64 * (quarter >> 2) + 32 * (within % 2);
    const high = from + 128 + 32 * (quarter >> 2);
    for (let i = 0; i < 32; i++) {
      const four = ((bytes[low + i] ?? 0) >> (4 * (within >> 1))) & 15;
      const two = ((bytes[high + i] ?? 0) >> (2 * within)) & 3;
      const scale = ((bytes[from + 192 + 2 * quarter + (i >> 4)] ?? 0) << 24) >> 24;
      target[to + 32 * quarter + i] = d * scale * ((four | (two << 4)) - 32);
    }
  }
});

/** The types that retort reads, by the numbers that GGUF gives them (ggml/include/ggml.h, enum ggml_type). */
export const ggufTypes: ReadonlyMap<number, GgufType> = new Map([
  [0, float('F32', floatFormats.F32)],
  [1, float('F16', floatFormats.F16)],
  [2, q4_0],
  [3, q4_1],
  [6, q5_0],
  [7, q5_1],
  [8, q8_0],
  [12, k4or5('Q4_K', 144, 0)],
  [13, k4or5('Q5_K', 176, 32)],
  [14, q6_k],
  [30, float('BF16', floatFormats.BF16)],
]);

/** Names of the types that it does not read, for the message. */
export const unsupportedTypeNames: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [10, 'Q2_K'],
  [11, 'Q3_K'],
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
