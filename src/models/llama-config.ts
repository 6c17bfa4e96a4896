import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import type { RopeSpecification } from '../nn/rope.ts';

/** What a Llama-family config.json says, in our words. */
export interface LlamaConfig {
  readonly vocabularySize: number;
  readonly width: number;
  readonly mlpWidth: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headWidth: number;
  readonly normEpsilon: number;
  readonly contextLength: number;
  readonly rope: RopeSpecification;
  readonly tiedEmbeddings: boolean;
  readonly initializerRange: number;
}

const positive = z.number().int().positive();

const ropeParameters = z.looseObject({
  rope_type: z.string().optional(),
  /** The older spelling of rope_type. */
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  /** The share of a head that is rotated: here always the whole of it. */
  partial_rotary_factor: z.literal(1).nullish(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: positive.optional(),
});

// Loose: config.json carries much that does not change the arithmetic. What does is either read here or refused below.
const schema = z.looseObject({
  vocab_size: positive,
  hidden_size: positive,
  intermediate_size: positive,
  num_hidden_layers: positive,
  num_attention_heads: positive,
  num_key_value_heads: positive.optional(),
  head_dim: positive.nullish(),
  rms_norm_eps: z.number().positive(),
  max_position_embeddings: positive,
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeParameters.nullish(),
  rope_parameters: ropeParameters.nullish(),
  partial_rotary_factor: z.literal(1).nullish(),
  tie_word_embeddings: z.boolean().optional(),
  initializer_range: z.number().positive().optional(),
  hidden_act: z.literal('silu').optional(),
  attention_bias: z.literal(false).nullish(),
  mlp_bias: z.literal(false).nullish(),
});

/** Reads the config.json of a Llama-family model. Throws a UserError that names each key that is missing or asks for what is not supported. */
export const parseLlamaConfig = (raw: unknown): LlamaConfig => {
  const parsed = schema.safeParse(raw);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `  ${issue.path.join('.') || '(top)'}: ${issue.message}`);
    throw new UserError(`config.json of this llama model cannot be used:\n${problems.join('\n')}`);
  }
  const config = parsed.data;
  const headCount = config.num_attention_heads;
  const kvHeadCount = config.num_key_value_heads ?? headCount;
  const headWidth = config.head_dim ?? config.hidden_size / headCount;
  if (headCount % kvHeadCount !== 0) {
    throw new UserError(`config.json: num_attention_heads (${headCount}) must be a multiple of num_key_value_heads (${kvHeadCount})`);
  }
  if (!Number.isInteger(headWidth) || headWidth % 2 !== 0) {
    throw new UserError(
      `config.json: the head width (head_dim, or hidden_size / num_attention_heads) must be an even whole number, not ${headWidth}`,
    );
  }
  return {
    vocabularySize: config.vocab_size,
    width: config.hidden_size,
    mlpWidth: config.intermediate_size,
    layerCount: config.num_hidden_layers,
    headCount,
    kvHeadCount,
    headWidth,
    normEpsilon: config.rms_norm_eps,
    contextLength: config.max_position_embeddings,
    rope: parseRope(config),
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    initializerRange: config.initializer_range ?? 0.02,
  };
};

/** Both spellings: `rope_theta` beside `rope_scaling`, and transformers 5's `rope_parameters` that holds both. */
const parseRope = (config: z.infer<typeof schema>): RopeSpecification => {
  const parameters = config.rope_parameters ?? config.rope_scaling ?? {};
  const theta = parameters.rope_theta ?? config.rope_theta ?? 10_000;
  const type = parameters.rope_type ?? parameters.type ?? 'default';
  if (type === 'default') return { theta };
  if (type !== 'llama3') throw new UserError(`config.json: RoPE scaling "${type}" is not supported. Supported: default, llama3`);
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = parameters;
  if (
    factor === undefined ||
    low_freq_factor === undefined ||
    high_freq_factor === undefined ||
    original_max_position_embeddings === undefined
  ) {
    throw new UserError(
      'config.json: RoPE scaling "llama3" wants factor, low_freq_factor, high_freq_factor and original_max_position_embeddings; ' +
        `it has ${Object.keys(parameters).join(', ')}`,
    );
  }
  return {
    theta,
    scaling: {
      factor,
      lowFrequencyFactor: low_freq_factor,
      highFrequencyFactor: high_freq_factor,
      originalContextLength: original_max_position_embeddings,
    },
  };
};
