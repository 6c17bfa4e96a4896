import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { openGguf } from '../src/weights/gguf.ts';
import { readModelConfiguration, readTokenizerFiles } from '../src/weights/model-folder.ts';
import { type GgufParts, ggufBytes } from './gguf-bytes.ts';

const folder = await mkdtemp(join(tmpdir(), 'retort-bad-gguf-'));
const path = join(folder, 'model.gguf');

const refusal =
  (...parts: readonly string[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError, `a ${String(error)} instead of a UserError`);
    for (const part of [path, ...parts]) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    return true;
  };

/** The smallest metadata with which a llama is described whole. */
const llama: NonNullable<GgufParts['metadata']> = [
  ['general.architecture', 'llama'],
  ['llama.block_count', 1],
  ['llama.context_length', 64],
  ['llama.embedding_length', 8],
  ['llama.feed_forward_length', 16],
  ['llama.attention.head_count', 2],
  ['llama.attention.layer_norm_rms_epsilon', Math.fround(1e-5)],
];
const without = (key: string) => llama.filter(([name]) => name !== key);
const q = { name: 'blk.0.attn_q.weight', dimensions: [8, 8] };

describe('a GGUF file is refused', () => {
  const cases: readonly [string, Buffer | GgufParts, readonly string[]][] = [
    ['that is another format', Buffer.from('PK\x03\x04'.padEnd(64)), ['no GGUF file']],
    ['of an older version', { version: 1 }, ['version 1', '2 and 3']],
    ['that is big-endian', { version: 0x03000000 }, ['big-endian']],
    ['with a metadata key twice', { metadata: [...llama, ['llama.block_count', 2]] }, ['llama.block_count', 'twice']],
    ['with an alignment of 12', { metadata: [['general.alignment', 12]] }, ['general.alignment', '12']],
    ['without an architecture', { metadata: [] }, ['general.architecture']],
    ['of an unknown architecture, with those known', { metadata: [['general.architecture', 'mamba']] }, ['mamba', 'llama, qwen2']],
    [
      'in a type that is not read, with those that are',
      { metadata: llama, tensors: [{ ...q, type: 10, dimensions: [256, 8] }], dataBytes: 4096 },
      ['Tensor blk.0.attn_q.weight', 'Q2_K', 'Q4_1', 'safetensors'],
    ],
    [
      'in a type of next year',
      { metadata: llama, tensors: [{ ...q, type: 99 }], dataBytes: 4096 },
      ['Tensor blk.0.attn_q.weight', 'number 99'],
    ],
    [
      'with rows that are no whole blocks',
      { metadata: llama, tensors: [{ ...q, type: 2 }], dataBytes: 256 },
      ['Tensor blk.0.attn_q.weight', 'blocks of 32'],
    ],
    [
      'with overlapping tensors',
      { metadata: llama, tensors: [q, { ...q, name: 'blk.0.attn_k.weight', offset: 128 }], dataBytes: 512 },
      ['Tensor blk.0.attn_k.weight', 'overlaps tensor blk.0.attn_q.weight'],
    ],
    [
      'with a tensor twice',
      { metadata: llama, tensors: [q, { ...q, offset: 256 }], dataBytes: 512 },
      ['Tensor blk.0.attn_q.weight', 'twice'],
    ],
    [
      'with a crooked offset',
      { metadata: llama, tensors: [{ ...q, offset: 4 }], dataBytes: 512 },
      ['Tensor blk.0.attn_q.weight', 'offset 4'],
    ],
    [
      'with an impossible size',
      { metadata: llama, tensors: [{ ...q, dimensions: [2 ** 40, 2 ** 40] }] },
      ['Tensor blk.0.attn_q.weight', 'impossible'],
    ],
    [
      'of five dimensions',
      { metadata: llama, tensors: [{ ...q, dimensions: [1, 1, 1, 1, 1] }], dataBytes: 64 },
      ['blk.0.attn_q.weight', '5 dimensions'],
    ],
    ['cut inside a tensor', { metadata: llama, tensors: [q], dataBytes: 255 }, ['Tensor blk.0.attn_q.weight', 'cut short']],
    [
      'with a tensor that a llama does not have',
      { metadata: llama, tensors: [{ ...q, name: 'blk.0.attn_sinks.weight' }], dataBytes: 256 },
      ['blk.0.attn_sinks.weight', 'unknown in the architecture llama'],
    ],
    [
      'that is one part of several',
      { metadata: [...llama, ['split.count', 3]], tensors: [q], dataBytes: 256 },
      ['one of 3 parts', 'llama-gguf-split'],
    ],
  ];
  for (const [what, file, parts] of cases) {
    it(what, async () => {
      await writeFile(path, Buffer.isBuffer(file) ? file : ggufBytes(file));
      await assert.rejects(openGguf(path), refusal(...parts));
    });
  }

  it('by the reading of q when its rows do not divide into heads', async () => {
    await writeFile(path, ggufBytes({ metadata: llama, tensors: [{ ...q, dimensions: [8, 6] }], dataBytes: 192 }));
    const source = await openGguf(path);
    await assert.rejects(
      source.read('model.layers.0.self_attn.q_proj.weight'),
      refusal('model.layers.0.self_attn.q_proj.weight', '6 rows', '2 heads'),
    );
    await source.close();
  });
});

describe('a GGUF file makes no configuration', () => {
  const cases: readonly [string, NonNullable<GgufParts['metadata']>, readonly string[]][] = [
    ['when a size is missing', without('llama.embedding_length'), ['llama.embedding_length', 'without a config.json']],
    ['when a size is a text', [...without('llama.block_count'), ['llama.block_count', 'two']], ['llama.block_count', '"two"', 'a number']],
    ['of a mixture of experts', [...llama, ['llama.expert_count', 8]], ['llama.expert_count']],
    ['of heads that are rotated in part', [...llama, ['llama.rope.dimension_count', 2]], ['rotates 2 of 4']],
    ['with a RoPE scaling that is not computed', [...llama, ['llama.rope.scaling.type', 'yarn']], ['yarn', 'llama.rope.scaling.type']],
    ['with linear RoPE scaling without its factor', [...llama, ['llama.rope.scaling.type', 'linear']], ['llama.rope.scaling.factor']],
  ];
  for (const [what, metadata, parts] of cases) {
    it(what, async () => {
      await writeFile(path, ggufBytes({ metadata: [...metadata, ['llama.vocab_size', 16]] }));
      await assert.rejects(readModelConfiguration(path), refusal(...parts));
    });
  }

  it('when its RoPE frequencies are those of no Llama 3', async () => {
    const bytes = ggufBytes({
      metadata: [...llama, ['llama.vocab_size', 16]],
      tensors: [{ name: 'rope_freqs.weight', dimensions: [2] }],
      dataBytes: 8,
    });
    bytes.writeFloatLE(1, bytes.length - 8);
    bytes.writeFloatLE(3.3, bytes.length - 4);
    await writeFile(path, bytes);
    // theta 10000, head of 4: frequencies 1 and 0.01, of wavelengths 6.3 and 628, which Llama 3 never scales
    await assert.rejects(readModelConfiguration(path), refusal('rope_freqs.weight', 'config.json'));
  });

  it('but for that it is made: linear scaling, a context, heads that share nothing', async () => {
    const metadata: GgufParts['metadata'] = [
      ...llama,
      ['llama.vocab_size', 16],
      ['llama.rope.scaling.type', 'linear'],
      ['llama.rope.scaling.factor', 2.5],
    ];
    await writeFile(path, ggufBytes({ metadata }));
    const { rope_scaling, num_key_value_heads, max_position_embeddings, vocab_size, rope_theta } = Object(
      (await readModelConfiguration(path)).config,
    );
    assert.deepEqual(
      [rope_scaling, num_key_value_heads, max_position_embeddings, vocab_size],
      [{ rope_type: 'linear', factor: 2.5 }, 2, 64, 16],
    );
    assert.equal(rope_theta, 10000); // llama.cpp's default where the key is absent (src/llama-model.cpp, load_hparams)
  });
});

describe('a GGUF file makes no tokenizer', () => {
  const base: NonNullable<GgufParts['metadata']> = [
    ['general.architecture', 'llama'],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'smollm'],
  ];
  const cases: readonly [string, NonNullable<GgufParts['metadata']>, readonly string[]][] = [
    ['of the SentencePiece kind', [['tokenizer.ggml.model', 'llama']], ['kind llama', 'tokenizer.json']],
    ['when it does not say how to split', [['tokenizer.ggml.model', 'gpt2']], ['tokenizer.ggml.pre', 'smollm, llama-bpe, qwen2']],
    [
      'when its splitting is a name from a prototype',
      [
        ['tokenizer.ggml.model', 'gpt2'],
        ['tokenizer.ggml.pre', 'toString'],
      ],
      ['toString'],
    ],
    ['without tokens', base, ['tokenizer.ggml.tokens']],
    [
      'with a number of types that is not that of tokens',
      [...base, ['tokenizer.ggml.tokens', ['a']], ['tokenizer.ggml.token_type', []]],
      ['1 tokens and 0 token types'],
    ],
  ];
  for (const [what, metadata, parts] of cases) {
    it(what, async () => {
      await writeFile(path, ggufBytes({ metadata }));
      await assert.rejects(readTokenizerFiles(path), refusal(...parts));
    });
  }
});
