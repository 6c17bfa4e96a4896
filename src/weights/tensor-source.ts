/** What is known of a stored tensor without reading it. */
export interface StoredTensor {
  readonly shape: readonly number[];
  /** The element type on disk, as the file format names it: F32, BF16, F16, Q4_1 … */
  readonly storage: string;
}

/**
 * Named tensors somewhere on disk, read one at a time, by range. Names and shapes are always Hugging Face's (`[out, in]` for a linear
 * layer), whatever the file calls them.
 */
export interface TensorSource {
  readonly names: ReadonlyMap<string, StoredTensor>;
  /** One tensor in float32, row-major. Throws a `UserError` that names file and tensor when it is torn, short or of an unsupported type. */
  read(name: string): Promise<Float32Array<ArrayBuffer>>;
  /**
   * SHA-256 over each file's name, size and whole content: equal on every machine that has the same bytes. Reads all of them at the first
   * call, about 0.7 s per GB.
   */
  fingerprint(): Promise<string>;
  close(): Promise<void>;
}

/** The files of a tokenizer, parsed but not interpreted. `tokenizerConfigJson.chat_template` is filled in from wherever it lay. */
export interface TokenizerFiles {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfigJson: unknown;
}
