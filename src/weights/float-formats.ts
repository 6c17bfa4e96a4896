import { endianness } from 'node:os';
import { InternalError } from '../base/errors.ts';

/** A 16-bit or 32-bit float as files store it: little-endian. */
export interface FloatFormat {
  readonly byteWidth: number;
  decode(bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer>;
  /** Rounds to nearest, ties to even. What is too large for the format becomes infinite. */
  encode(values: Float32Array): Uint8Array<ArrayBuffer>;
}

// Typed arrays have the machine's byte order and files have little-endian. ONNX Runtime does not run on big-endian machines either.
if (endianness() !== 'LE') throw new InternalError('this machine is big-endian; weights are read on little-endian machines only');

const float32: FloatFormat = {
  byteWidth: 4,
  decode: (bytes) =>
    new Float32Array(
      bytes.byteOffset % 4 === 0 ? bytes.buffer : bytes.slice().buffer,
      bytes.byteOffset % 4 === 0 ? bytes.byteOffset : 0,
      bytes.byteLength / 4,
    ),
  encode: (values) => new Uint8Array(Float32Array.from(values).buffer),
};

/** bfloat16: the upper half of a float32. */
const bfloat16: FloatFormat = {
  byteWidth: 2,
  decode: (bytes) => {
    const halves = halvesOf(bytes);
    const bits = new Uint32Array(halves.length);
    for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] ?? 0) << 16;
    return new Float32Array(bits.buffer);
  },
  encode: (values) => {
    const bits = new Uint32Array(Float32Array.from(values).buffer);
    const halves = new Uint16Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const word = bits[i] ?? 0;
      const isNaN = (word & 0x7fffffff) > 0x7f800000;
      // Adding 0x7fff and the lowest kept bit carries into the kept half exactly when the rest is over one half, or one half and odd.
      halves[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    }
    return new Uint8Array(halves.buffer);
  },
};

/** IEEE 754 binary16: sign, 5 exponent bits of bias 15, 10 fraction bits. */
const float16: FloatFormat = {
  byteWidth: 2,
  decode: (bytes) => {
    const halves = halvesOf(bytes);
    const result = new Float32Array(halves.length);
    const bits = new Uint32Array(result.buffer);
    for (let i = 0; i < halves.length; i++) {
      const half = halves[i] ?? 0;
      const isSpecial = (half & 0x7c00) === 0x7c00;
      bits[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13) | (isSpecial ? 0x7f800000 : 0);
      // The exponent still has bias 15 where float32 has 127; multiplying by 2^112 mends it, exactly, for subnormals as well.
      if (!isSpecial) result[i] = (result[i] ?? 0) * 2 ** 112;
    }
    return result;
  },
  encode: (values) => {
    const halves = new Uint16Array(values.length);
    for (let i = 0; i < values.length; i++) halves[i] = float16Bits(values[i] ?? 0);
    return new Uint8Array(halves.buffer);
  },
};

const float16Bits = (value: number): number => {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00; // halfway between the largest float16, 65504, and the next power of two
  // A unit in the last place is 2^(exponent − 10); below 2^−14 (subnormal) it stays 2^−24.
  const exponent = Math.max(-14, magnitude === 0 ? -14 : Math.floor(Math.log2(magnitude)));
  const exact = magnitude / 2 ** (exponent - 10);
  const below = Math.floor(exact);
  const remainder = exact - below;
  const units = below + (remainder > 0.5 || (remainder === 0.5 && below % 2 === 1) ? 1 : 0);
  // `units` holds the hidden bit for normal numbers, so adding it to the biased exponent less one also carries rounding up a binade.
  return sign | ((exponent + 14) * 1024 + units);
};

const halvesOf = (bytes: Uint8Array<ArrayBuffer>): Uint16Array<ArrayBuffer> => {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
};

/** The floats that can be read from files and written to them, under safetensors' names, which GGUF shares. */
export const floatFormats = { F32: float32, F16: float16, BF16: bfloat16 } as const satisfies Record<string, FloatFormat>;

export type FloatFormatName = keyof typeof floatFormats;

export const isFloatFormatName = (name: string): name is FloatFormatName => Object.hasOwn(floatFormats, name);
