/** A GGUF file in bytes, with whatever is wrong with it that a test asks for. */
export interface GgufParts {
  readonly version?: number;
  readonly metadata?: readonly (readonly [key: string, value: string | number | boolean | readonly string[]])[];
  readonly tensors?: readonly GgufTensorRow[];
  /** Bytes after the header, which is padded to 32. */
  readonly dataBytes?: number;
}

export interface GgufTensorRow {
  readonly name: string;
  /** Innermost first, as GGUF has it. */
  readonly dimensions: readonly number[];
  /** GGUF's number of the type; 0 is F32. */
  readonly type?: number;
  readonly offset?: number;
}

/** Little-endian, version 3 unless something else is asked for. */
export const ggufBytes = ({ version = 3, metadata = [], tensors = [], dataBytes = 0 }: GgufParts): Buffer => {
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(version),
    u64(tensors.length),
    u64(metadata.length),
    ...metadata.flatMap(([key, value]) => [text(key), valueBytes(value)]),
    ...tensors.flatMap(({ name, dimensions, type = 0, offset = 0 }) => [
      text(name),
      u32(dimensions.length),
      ...dimensions.map(u64),
      u32(type),
      u64(offset),
    ]),
  ]);
  return Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32), Buffer.alloc(dataBytes)]);
};

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** Type numbers of values: 4 uint32, 6 float32, 7 bool, 8 string, 9 array. */
const valueBytes = (value: string | number | boolean | readonly string[]): Buffer => {
  if (typeof value === 'string') return Buffer.concat([u32(8), text(value)]);
  if (typeof value === 'boolean') return Buffer.concat([u32(7), Buffer.of(value ? 1 : 0)]);
  if (typeof value !== 'number') return Buffer.concat([u32(9), u32(8), u64(value.length), ...value.map(text)]);
  if (Number.isInteger(value)) return Buffer.concat([u32(4), u32(value)]);
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([u32(6), bytes]);
};
