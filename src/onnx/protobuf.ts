/**
 * Writes the protobuf wire format: enough of it for ONNX models. A message is a list of chunks, joined once at the end, so that the
 * constants in it are copied once.
 */
export class MessageWriter {
  readonly #chunks: Uint8Array[] = [];
  #size = 0;

  /** int64, int32, enum and bool fields. */
  varint(field: number, value: number | bigint): this {
    return this.#append(varintBytes(BigInt(field) << 3n), varintBytes(BigInt.asUintN(64, BigInt(value))));
  }

  float(field: number, value: number): this {
    return this.#append(varintBytes((BigInt(field) << 3n) | 5n), new Uint8Array(Float32Array.of(value).buffer));
  }

  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#append(varintBytes((BigInt(field) << 3n) | 2n), varintBytes(BigInt(value.length)), value);
  }

  message(field: number, value: MessageWriter): this {
    this.#append(varintBytes((BigInt(field) << 3n) | 2n), varintBytes(BigInt(value.#size)));
    // One by one: a graph's message has more chunks than a call may have arguments.
    for (const chunk of value.#chunks) this.#append(chunk);
    return this;
  }

  finish(): Uint8Array {
    const result = new Uint8Array(this.#size);
    let offset = 0;
    for (const chunk of this.#chunks) {
      result.set(chunk, offset);
      offset += chunk.length;
    }
    return result;
  }

  #append(...chunks: Uint8Array[]): this {
    for (const chunk of chunks) {
      this.#chunks.push(chunk);
      this.#size += chunk.length;
    }
    return this;
  }
}

const varintBytes = (value: bigint): Uint8Array => {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
};
