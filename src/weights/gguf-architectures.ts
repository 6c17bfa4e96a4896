import { UserError } from '../base/errors.ts';
import type { GgufHeader } from './gguf-file.ts';
import { metadataReader, required } from './gguf-file.ts';

/** What differs between the architectures of GGUF files. */
export interface GgufArchitecture {
  /** The value of `general.architecture`, which is also the prefix of its metadata keys. */
  readonly name: string;
  /** Hugging Face's class and model_type. */
  readonly className: string;
  readonly modelType: string;
  /** llama.cpp stores the rows of q and k of these models with the two halves of each head interleaved. */
  readonly permutesQueriesAndKeys: boolean;
  /** Hugging Face's name of a module, by its GGUF name; `{i}` is the layer. */
  readonly modules: Readonly<Record<string, string>>;
}

const decoderModules = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
  'blk.{i}.attn_norm': 'model.layers.{i}.input_layernorm',
  'blk.{i}.attn_q': 'model.layers.{i}.self_attn.q_proj',
  'blk.{i}.attn_k': 'model.layers.{i}.self_attn.k_proj',
  'blk.{i}.attn_v': 'model.layers.{i}.self_attn.v_proj',
  'blk.{i}.attn_output': 'model.layers.{i}.self_attn.o_proj',
  'blk.{i}.ffn_norm': 'model.layers.{i}.post_attention_layernorm',
  'blk.{i}.ffn_gate': 'model.layers.{i}.mlp.gate_proj',
  'blk.{i}.ffn_up': 'model.layers.{i}.mlp.up_proj',
  'blk.{i}.ffn_down': 'model.layers.{i}.mlp.down_proj',
};

/** Names: gguf-py/gguf/tensor_mapping.py; the permutation: convert_hf_to_gguf.py, LlamaModel.permute. */
export const ggufArchitectures: readonly GgufArchitecture[] = [
  {
    name: 'llama',
    className: 'LlamaForCausalLM',
    modelType: 'llama',
    permutesQueriesAndKeys: true,
    modules: decoderModules,
  },
  {
    name: 'qwen2',
    className: 'Qwen2ForCausalLM',
    modelType: 'qwen2',
    permutesQueriesAndKeys: false,
    modules: decoderModules,
  },
];

/** The row of a file's architecture; an unknown one is a `UserError` with the list of those known. */
export const architectureOf = (header: GgufHeader): GgufArchitecture => {
  const name = required(metadataReader(header).string('general.architecture'), 'general.architecture', header.path);
  const found = ggufArchitectures.find((architecture) => architecture.name === name);
  if (found !== undefined) return found;
  const known = ggufArchitectures.map((architecture) => architecture.name).join(', ');
  throw new UserError(`${header.path} holds a model of the architecture ${name}. Supported in GGUF files: ${known}.`);
};

/** Frequencies of Llama 3's RoPE scaling; they follow from the configuration and are no parameter of the model. */
export const ropeFrequenciesName = 'rope_freqs.weight';

/** Hugging Face's name of a tensor, or undefined where the architecture has no such tensor. */
export const huggingFaceName = (architecture: GgufArchitecture, ggufName: string): string | undefined => {
  const parts = /^(?:blk\.(?<layer>\d+)\.)?(?<module>[a-z0-9_]+)\.(?<kind>weight|bias)$/.exec(ggufName)?.groups;
  if (parts === undefined) return undefined;
  const { layer, module = '', kind = '' } = parts;
  const key = layer === undefined ? module : `blk.{i}.${module}`;
  const name = Object.hasOwn(architecture.modules, key) ? architecture.modules[key] : undefined;
  return name === undefined ? undefined : `${name.replace('{i}', layer ?? '')}.${kind}`;
};
