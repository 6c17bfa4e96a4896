import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { initialWeights } from '../src/engines/initial-parameters.ts';
import { decoderOf } from '../src/models/families.ts';
import { writeSafetensors } from '../src/weights/safetensors-writer.ts';
import { byteTokenizerFiles } from './fake-engine.ts';

/** The size of the toys: a Llama of width 32 and two layers over bytes. */
export const toyConfig = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 258,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 1024,
  rope_theta: 10000,
  tie_word_embeddings: true,
  // Large enough that untrained logits differ from token to token.
  initializer_range: 0.2,
  eos_token_id: 257,
};

export interface ToyModelOptions {
  readonly seed?: number;
  /** Changes of config.json. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** What the template says where no system message is given. */
  readonly systemText?: string;
}

/** Writes a model folder of random weights that speaks bytes: config.json, tokenizer.json, tokenizer_config.json, model.safetensors. */
export const writeToyModel = async (folder: string, options: ToyModelOptions = {}): Promise<string> => {
  const { seed = 1, systemText } = options;
  const config = { ...toyConfig, ...options.config };
  const { tokenizerJson, tokenizerConfigJson, chatTemplate } = byteTokenizerFiles();
  const system =
    systemText === undefined
      ? ''
      : `{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n${systemText}<|im_end|>\n' }}{% endif %}`;
  await mkdir(folder, { recursive: true });
  const write = (name: string, value: unknown) => writeFile(join(folder, name), JSON.stringify(value));
  await write('config.json', config);
  await write('tokenizer.json', tokenizerJson);
  await write('tokenizer_config.json', { ...tokenizerConfigJson, chat_template: system + chatTemplate });
  const weights = Object.entries(initialWeights(decoderOf(config), seed));
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    weights.map(([name, { shape, data }]) => ({ name, shape, format: 'F32', read: () => data })),
    { format: 'pt' },
  );
  return folder;
};
