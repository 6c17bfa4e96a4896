import { UserError } from '../base/errors.ts';
import { type ByteFile, openByteFile } from './byte-file.ts';
import { architectureOf, ropeFrequenciesName } from './gguf-architectures.ts';
import { type GgufHeader, type MetadataReader, metadataReader, required } from './gguf-file.ts';

/** The config.json that a GGUF's metadata amounts to. */
export interface GgufConfiguration {
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig: Readonly<Record<string, unknown>>;
}

/** Makes config.json and generation_config.json from the metadata of a GGUF, in Hugging Face's spelling. */
export const configurationFromGguf = async (header: GgufHeader): Promise<GgufConfiguration> => {
  const architecture = architectureOf(header);
  const read = metadataReader(header);
  const key = (name: string) => `${architecture.name}.${name}`;
  const number = (name: string) => read.number(key(name));
  const needed = (name: string) => required(number(name), key(name), header.path);
  if ((number('expert_count') ?? 0) > 0) {
    throw new UserError(
      `${header.path} is a mixture of ${number('expert_count')} experts (${key('expert_count')}); that is not supported.`,
    );
  }
  const headCount = needed('attention.head_count');
  const hiddenSize = needed('embedding_length');
  const headSize = number('attention.key_length') ?? hiddenSize / headCount;
  const rotated = number('rope.dimension_count') ?? headSize;
  if (rotated !== headSize) {
    throw new UserError(
      `${header.path} rotates ${rotated} of ${headSize} dimensions of a head (${key('rope.dimension_count')}); not supported.`,
    );
  }
  const ropeTheta = shortestFloat32(number('rope.freq_base') ?? 10000);
  const ids = tokenIds(read);
  const has = (name: string) => header.entries.has(name);
  const config = {
    architectures: [architecture.className],
    model_type: architecture.modelType,
    attention_bias: has('blk.0.attn_q.bias'),
    mlp_bias: has('blk.0.ffn_gate.bias'),
    ...ids,
    head_dim: headSize,
    hidden_act: 'silu',
    hidden_size: hiddenSize,
    intermediate_size: needed('feed_forward_length'),
    max_position_embeddings: needed('context_length'),
    num_attention_heads: headCount,
    num_hidden_layers: needed('block_count'),
    num_key_value_heads: number('attention.head_count_kv') ?? headCount,
    rms_norm_eps: shortestFloat32(needed('attention.layer_norm_rms_epsilon')),
    rope_theta: ropeTheta,
    rope_scaling: await ropeScaling(header, read, key, { ropeTheta, headSize }),
    tie_word_embeddings: !has('output.weight'),
    vocab_size: header.entries.get('token_embd.weight')?.shape[0] ?? needed('vocab_size'),
  };
  return { config, generationConfig: ids };
};

const tokenIds = (read: MetadataReader) => {
  const bos = read.number('tokenizer.ggml.bos_token_id');
  const pad = read.number('tokenizer.ggml.padding_token_id');
  // Some models end a turn with another token than a text; generation stops at either.
  const ends = ['eos', 'eot'].map((end) => read.number(`tokenizer.ggml.${end}_token_id`)).filter((id) => id !== undefined);
  const distinct = [...new Set(ends)];
  return {
    ...(bos === undefined ? {} : { bos_token_id: bos }),
    ...(distinct.length === 0 ? {} : { eos_token_id: distinct.length === 1 ? distinct[0] : distinct }),
    ...(pad === undefined ? {} : { pad_token_id: pad }),
  };
};

interface Rope {
  readonly ropeTheta: number;
  readonly headSize: number;
}

const ropeScaling = async (header: GgufHeader, read: MetadataReader, key: (name: string) => string, rope: Rope): Promise<unknown> => {
  const type = read.string(key('rope.scaling.type')) ?? 'none';
  if (type === 'linear') {
    return { rope_type: 'linear', factor: required(read.number(key('rope.scaling.factor')), key('rope.scaling.factor'), header.path) };
  }
  if (type !== 'none')
    throw new UserError(`${header.path} has RoPE scaling ${type} (${key('rope.scaling.type')}). Supported: none, linear, llama3.`);
  return header.entries.has(ropeFrequenciesName) ? llama3Scaling(header, rope) : null;
};

/**
 * Llama 3's scaling is in a GGUF only as one divisor per pair of dimensions. The factor is the largest of them; the other numbers are
 * those of every Llama 3.x, and the divisors computed from all four must be the ones in the file.
 */
const llama3Scaling = async (header: GgufHeader, { ropeTheta, headSize }: Rope): Promise<unknown> => {
  const stored = await readFloats(header, ropeFrequenciesName);
  const scaling = { rope_type: 'llama3', factor: Math.max(...stored), ...llama3Constants };
  const computed = Array.from({ length: headSize / 2 }, (_, pair) => llama3Divisor(scaling, ropeTheta ** ((-2 * pair) / headSize)));
  const fits = computed.length === stored.length && computed.every((divisor, pair) => Math.abs(divisor / (stored[pair] ?? 0) - 1) < 1e-4);
  if (!fits) {
    throw new UserError(
      `${header.path}: ${ropeFrequenciesName} is not Llama 3's RoPE scaling for any factor. Put the model's config.json beside the file.`,
    );
  }
  return scaling;
};

const llama3Constants = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/** transformers, modeling_rope_utils.py, _compute_llama3_parameters: what the frequency (radians a token) is divided by. */
const llama3Divisor = (scaling: typeof llama3Constants & { readonly factor: number }, frequency: number): number => {
  const turns = (scaling.original_max_position_embeddings * frequency) / (2 * Math.PI);
  if (turns > scaling.high_freq_factor) return 1;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
};

const readFloats = async (header: GgufHeader, name: string): Promise<Float32Array> => {
  const entry = header.entries.get(name);
  if (entry === undefined) throw new UserError(`${header.path} has no tensor ${name}.`);
  const file: ByteFile = await openByteFile(header.path);
  try {
    const bytes = new Uint8Array(entry.end - entry.begin);
    await file.readInto(bytes, entry.begin, `tensor ${name}`);
    return entry.type.dequantise(bytes);
  } finally {
    await file.close();
  }
};

/** The shortest decimal that is this float32: 1e-5, not 9.999999747378752e-6. GGUF keeps float32 where config.json has decimals. */
export const shortestFloat32 = (value: number): number => {
  for (let digits = 1; digits < 9; digits++) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === Math.fround(value)) return candidate;
  }
  return value;
};

/** What a GGUF says of the numbers in a config.json, under the config's keys; undefined where it says nothing. */
const statedNumbers = (header: GgufHeader): Readonly<Record<string, number | undefined>> => {
  const read = metadataReader(header);
  const number = (name: string) => read.number(`${architectureOf(header).name}.${name}`);
  return {
    hidden_size: number('embedding_length'),
    intermediate_size: number('feed_forward_length'),
    num_hidden_layers: number('block_count'),
    num_attention_heads: number('attention.head_count'),
    num_key_value_heads: number('attention.head_count_kv'),
    head_dim: number('attention.key_length') ?? number('rope.dimension_count'),
    vocab_size: header.entries.get('token_embd.weight')?.shape[0],
    rope_theta: number('rope.freq_base'),
    rms_norm_eps: number('attention.layer_norm_rms_epsilon'),
  };
};

/** Refuses a config.json that says something else than the GGUF beside it. What one of the two leaves out is not compared. */
export const checkConfigFitsGguf = (config: unknown, header: GgufHeader, configPath: string): void => {
  if (typeof config !== 'object' || config === null) throw new UserError(`${configPath} is not a JSON object.`);
  const given: Partial<Record<string, unknown>> = { ...config };
  for (const [key, stated] of Object.entries(statedNumbers(header))) {
    const value = given[key];
    // GGUF keeps float32, config.json decimals.
    if (stated === undefined || typeof value !== 'number' || Math.fround(value) === Math.fround(stated)) continue;
    throw new UserError(
      `${configPath} does not belong to ${header.path}: ${key} is ${value} in the one and ${shortestFloat32(stated)} in the other. ` +
        'Put the right config.json there, or remove it: without one the GGUF alone is used.',
    );
  }
};
