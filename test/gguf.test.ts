import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import { createTokenizer } from '../src/text/tokenizer.ts';
import { openGguf, separateHalves } from '../src/weights/gguf.ts';
import { ggufArchitectures, huggingFaceName } from '../src/weights/gguf-architectures.ts';
import { shortestFloat32 } from '../src/weights/gguf-config.ts';
import { openModelFolder, readTokenizerFiles } from '../src/weights/model-folder.ts';
import type { TensorSource } from '../src/weights/tensor-source.ts';
import { type GgufParts, ggufBytes } from './gguf-bytes.ts';
import { goldenPath } from './golden/golden-files.ts';

interface Expected {
  readonly type: string;
  readonly shape: number[];
  readonly sha256: string;
  readonly first: number[];
  readonly sum: number;
}

const readJson = async <T>(...parts: string[]): Promise<T> => JSON.parse(await readFile(goldenPath(...parts), 'utf8'));
const golden = await readJson<
  Record<'llama' | 'qwen2' | 'blocks', Record<string, Expected>> & Record<'smollm2-135m-instruct', Record<string, string>>
>('gguf.json');
const sha256 = (values: Float32Array) =>
  createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex');
const addedTokens = z.array(z.looseObject({ id: z.number(), content: z.string() }));
const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-gguf-'));

/** Opens, uses and closes. */
const withTensors = async <T>(path: string, use: (tensors: TensorSource) => Promise<T>): Promise<T> => {
  const tensors = await openGguf(path);
  try {
    return await use(tensors);
  } finally {
    await tensors.close();
  }
};

it('random blocks of Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are dequantised to the very numbers of the Python package gguf', () =>
  withTensors(goldenPath('gguf', 'blocks.gguf'), async (tensors) => {
    const expected = Object.entries(golden.blocks);
    assert.deepEqual(
      expected.map(([name]) => tensors.names.get(name)?.storage),
      ['Q5_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K'],
    );
    for (const [name, { first, shape, sha256: digest }] of expected) {
      const values = await tensors.read(name);
      assert.deepEqual(tensors.names.get(name)?.shape, shape);
      assert.deepEqual([...values.subarray(0, 3)], first, name);
      assert.equal(sha256(values), digest, name);
    }
  }));

for (const architecture of ['llama', 'qwen2'] as const) {
  describe(`a small GGUF of every type, ${architecture}`, () => {
    const path = goldenPath('gguf', `${architecture}.gguf`);

    it('has the names, shapes and types of Hugging Face', () =>
      withTensors(path, async (tensors) => {
        const expected = Object.entries(golden[architecture]).map(([name, { shape, type }]) => [name, { shape, storage: type }] as const);
        assert.deepEqual(Object.fromEntries(tensors.names), Object.fromEntries(expected));
        assert.deepEqual(
          new Set([...tensors.names.values()].map(({ storage }) => storage)),
          new Set(['F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1']),
        );
      }));

    it('is dequantised to the very numbers of the Python package gguf, rows of q and k in their places', () =>
      withTensors(path, async (tensors) => {
        for (const [name, { first, sha256: expected }] of Object.entries(golden[architecture])) {
          const values = await tensors.read(name);
          assert.deepEqual([...values.subarray(0, 3)], first, name);
          assert.equal(sha256(values), expected, name);
        }
      }));
  });
}

it('a llama GGUF without config.json: the configuration, with the RoPE scaling that its frequencies mean', async () => {
  const model = await openModelFolder(goldenPath('gguf', 'llama.gguf'));
  try {
    assert.deepEqual(model.config, {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      attention_bias: false,
      mlp_bias: false,
      bos_token_id: 0,
      eos_token_id: 3,
      head_dim: 8,
      hidden_act: 'silu',
      hidden_size: 32,
      intermediate_size: 64,
      max_position_embeddings: 256,
      num_attention_heads: 4,
      num_hidden_layers: 2,
      num_key_value_heads: 2,
      rms_norm_eps: 1e-5,
      rope_theta: 500000,
      // Written by gguf_files.py with factor 32 through transformers' formula
      rope_scaling: { rope_type: 'llama3', factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 },
      tie_word_embeddings: true,
      vocab_size: 422,
    });
    assert.deepEqual(model.generationConfig, { bos_token_id: 0, eos_token_id: 3 });
  } finally {
    await model.tensors.close();
  }
});

it('a qwen2 GGUF without config.json: biases and an output of its own are seen', async () => {
  const model = await openModelFolder(goldenPath('gguf', 'qwen2.gguf'));
  await model.tensors.close();
  const { model_type, attention_bias, tie_word_embeddings, rope_scaling } = Object(model.config);
  assert.deepEqual(
    { model_type, attention_bias, tie_word_embeddings, rope_scaling },
    { model_type: 'qwen2', attention_bias: true, tie_word_embeddings: false, rope_scaling: null },
  );
});

it('a config.json that contradicts the GGUF beside it is refused, by its key', async () => {
  const folder = await temporaryFolder();
  await copyFile(goldenPath('gguf', 'llama.gguf'), join(folder, 'model.gguf'));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'llama', hidden_size: 32, num_key_value_heads: 4 }));
  await assert.rejects(
    openModelFolder(folder),
    (error) => error instanceof UserError && /num_key_value_heads is 4 in the one and 2 in the other/.test(error.message),
  );
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'llama', hidden_size: 32, rope_theta: 5e5 }));
  await (await openModelFolder(folder)).tensors.close();
});

it('a config.json beside the GGUF supplies what the GGUF does not say', async () => {
  const folder = await temporaryFolder();
  // No context length, a scaling that is not computed: no configuration could be made of it
  const metadata: GgufParts['metadata'] = [
    ['general.architecture', 'llama'],
    ['llama.attention.head_count', 2],
    ['llama.rope.scaling.type', 'yarn'],
  ];
  await writeFile(join(folder, 'model.gguf'), ggufBytes({ metadata }));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'llama', hidden_size: 32, num_attention_heads: 2 }));
  const model = await openModelFolder(folder);
  await model.tensors.close();
  assert.deepEqual(model.config, { model_type: 'llama', hidden_size: 32, num_attention_heads: 2 });
});

describe('the tokenizer of a GGUF', () => {
  // The tokenizers in golden/tokenizers went into the GGUF files; test/tokenizer.test.ts holds those to Hugging Face's ids. `llama3-like`
  // and `qwen-like` write null for an empty affix; two of qwen-like's tokens swallow white space or stand alone, which a GGUF cannot say.
  const withoutAffixes = ({ continuing_subword_prefix, end_of_word_suffix, vocab, ...model }: Record<string, unknown>) => model;

  for (const [architecture, name] of [
    ['llama', 'llama3-like'],
    ['qwen2', 'qwen-like'],
  ] as const) {
    it(`is the one that went in: ${name}`, async () => {
      const given = await readJson<Record<string, Record<string, unknown>>>('tokenizers', `${name}.json`);
      const { tokenizerJson } = await readTokenizerFiles(goldenPath('gguf', `${architecture}.gguf`));
      const made = Object(tokenizerJson);
      assert.deepEqual(made.pre_tokenizer, given.pre_tokenizer);
      assert.deepEqual(made.normalizer, given.normalizer);
      assert.deepEqual(made.decoder, given.decoder);
      assert.deepEqual(withoutAffixes(made.model), withoutAffixes(given.model ?? {}));
      const added = addedTokens.parse(given.added_tokens).map((token) => ({
        ...token,
        lstrip: false,
        rstrip: false,
        single_word: false,
      }));
      assert.deepEqual(made.added_tokens, added);
      const vocabulary = { ...Object(given.model).vocab, ...Object.fromEntries(added.map(({ content, id }) => [content, id])) };
      assert.deepEqual(made.model.vocab, vocabulary);
      assert.equal(made.post_processor === null, given.post_processor === null);
    });
  }

  it('carries the chat template and the special tokens', async () => {
    const { tokenizerConfigJson } = await readTokenizerFiles(goldenPath('gguf', 'llama.gguf'));
    const { chat_template, bos_token, eos_token } = Object(tokenizerConfigJson);
    assert.deepEqual([chat_template, bos_token, eos_token], ["{{ messages[0]['content'] }}<|eot_id|>", '<|begin_of_text|>', '<|eot_id|>']);
  });

  it('is refused, not guessed, when the way of splitting is unknown', async () => {
    const folder = await temporaryFolder();
    const bytes = await readFile(goldenPath('gguf', 'qwen2.gguf'));
    const at = bytes.indexOf('tokenizer.ggml.pre');
    bytes.write('qwen9', bytes.indexOf('qwen2', at));
    await writeFile(join(folder, 'model.gguf'), bytes);
    await assert.rejects(
      readTokenizerFiles(folder),
      (error) =>
        error instanceof UserError && /qwen9 \(tokenizer.ggml.pre\), is unknown; known: smollm, llama-bpe, qwen2/.test(error.message),
    );
    // The weights are read all the same, since a tokenizer.json may come from elsewhere.
    await (await openModelFolder(folder)).tensors.close();
  });
});

describe('small parts', () => {
  it('the halves of heads of four rows come apart: 0 2 1 3', () => {
    // Two heads of four rows of width 1; llama.cpp stores rows 0 2 1 3 of Hugging Face's as 0 1 2 3.
    assert.deepEqual([...separateHalves(Float32Array.of(10, 12, 11, 13, 20, 22, 21, 23), 8, 2)], [10, 11, 12, 13, 20, 21, 22, 23]);
  });

  it('float32 numbers get their shortest decimals', () => {
    assert.equal(shortestFloat32(9.999999747378752e-6), 1e-5);
    assert.equal(shortestFloat32(500000), 500000);
    assert.equal(shortestFloat32(Math.fround(1 / 3)), 0.33333334);
  });

  it('names that the architecture does not have are not made up', () => {
    const llama = ggufArchitectures.find(({ name }) => name === 'llama');
    assert.ok(llama !== undefined);
    assert.equal(huggingFaceName(llama, 'blk.12.ffn_down.weight'), 'model.layers.12.mlp.down_proj.weight');
    for (const name of ['blk.0.attn_q_norm.weight', 'blk.0.ffn_gate_exps.weight', 'toString.weight', 'output', 'blk.x.attn_q.weight']) {
      assert.equal(huggingFaceName(llama, name), undefined, name);
    }
  });
});

const models = process.env.RETORT_MODELS;

describe('the real SmolLM2-135M-Instruct in Q4_1', {
  skip: models === undefined ? 'RETORT_MODELS names no folder of real weights' : false,
}, () => {
  const folder = join(models ?? '', 'smollm2-135m-instruct');

  it('is dequantised to the very numbers of the Python package gguf, all 272 tensors', async () => {
    const [file] = (await readdir(folder)).filter((name) => name.endsWith('.gguf'));
    const llama = ggufArchitectures[0];
    assert.ok(file !== undefined && llama !== undefined);
    await withTensors(join(folder, file), async (tensors) => {
      const expected = Object.entries(golden['smollm2-135m-instruct']);
      assert.equal(tensors.names.size, expected.length);
      for (const [ggufName, digest] of expected) {
        const name = huggingFaceName(llama, ggufName);
        assert.ok(name !== undefined, ggufName);
        assert.equal(sha256(await tensors.read(name)).slice(0, 16), digest, name);
      }
    });
  });

  it('has the tokenizer inside that lies beside it as tokenizer.json, and its ids', async () => {
    const alone = await temporaryFolder();
    const [file = ''] = (await readdir(folder)).filter((name) => name.endsWith('.gguf'));
    await symlink(join(folder, file), join(alone, 'model.gguf'));
    const made = await readTokenizerFiles(alone);
    const given = await readTokenizerFiles(folder);
    assert.deepEqual(made.tokenizerJson, given.tokenizerJson);
    assert.equal(Object(made.tokenizerConfigJson).chat_template, Object(given.tokenizerConfigJson).chat_template);
    // The ids of Hugging Face's tokenizers (test/golden/tokens.py), special tokens in the text read as such.
    const tokens = await readJson<{ texts: string[]; 'smollm2-135m-instruct': { rows: { parsed: number[] }[] } }>('tokens.json');
    const tokenizer = createTokenizer(made);
    const wrong = tokens.texts.filter((text, index) => {
      const ids = tokenizer.encode(text, { specialTokens: 'parse' });
      return JSON.stringify(ids) !== JSON.stringify(tokens['smollm2-135m-instruct'].rows[index]?.parsed);
    });
    assert.deepEqual(wrong, []);
  });

  it('makes the config.json that lies beside it', async () => {
    const alone = await temporaryFolder();
    const [file = ''] = (await readdir(folder)).filter((name) => name.endsWith('.gguf'));
    await symlink(join(folder, file), join(alone, 'model.gguf'));
    const [made, given] = [await openModelFolder(alone), await openModelFolder(folder)];
    await Promise.all([made.tensors.close(), given.tensors.close()]);
    const { attention_dropout, initializer_range, torch_dtype, use_cache, ...known } = Object(given.config);
    assert.deepEqual(made.config, known);
  });
});
