import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { type GgufHeader, type MetadataReader, metadataReader, required } from './gguf-file.ts';
import type { TokenizerFiles } from './tensor-source.ts';

/** What `tokenizer.ggml.pre` decides: how text is cut before merging. */
interface PreTokenizer {
  readonly normalizer: unknown;
  readonly preTokenizer: unknown;
  /** A piece that is a token as it stands is taken whole, whatever the merges say. */
  readonly ignoresMerges: boolean;
  /** Whether a text begins with BOS where the file does not say (llama.cpp, src/llama-vocab.cpp). */
  readonly addsBos: boolean;
}

const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };

const splitBy = (pattern: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    { ...byteLevel, use_regex: false },
  ],
});

/**
 * One row for each splitting that is known exactly. smollm: the tokenizer.json of SmolLM2. llama-bpe: transformers,
 * convert_slow_tokenizer.py, TikTokenConverter. qwen2: transformers, tokenization_qwen2.py.
 */
const preTokenizers: Readonly<Record<string, PreTokenizer>> = {
  smollm: {
    normalizer: null,
    preTokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { ...byteLevel, use_regex: true },
      ],
    },
    ignoresMerges: false,
    addsBos: false,
  },
  'llama-bpe': {
    normalizer: null,
    preTokenizer: splitBy(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ),
    ignoresMerges: true,
    addsBos: true,
  },
  qwen2: {
    normalizer: { type: 'NFC' },
    preTokenizer: splitBy(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ),
    ignoresMerges: false,
    addsBos: false,
  },
};

/** GGUF's token types (llama.cpp, include/llama.h, enum llama_token_type). */
const tokenTypes = { normal: 1, control: 3, userDefined: 4, unused: 5 } as const;

/**
 * The tokenizer.json and tokenizer_config.json that a GGUF's metadata amounts to. A GGUF does not say whether an added token strips white
 * space around it; that is taken as no, as it is in the models of these families.
 */
export const tokenizerFromGguf = (header: GgufHeader): TokenizerFiles => {
  const read = metadataReader(header);
  const kind = required(read.string('tokenizer.ggml.model'), 'tokenizer.ggml.model', header.path);
  if (kind !== 'gpt2') refuse(header, `its tokenizer is of the kind ${kind} (tokenizer.ggml.model); supported: gpt2, byte-level BPE`);
  const pre = preTokenizerOf(header, read);
  const tokens = required(read.strings('tokenizer.ggml.tokens'), 'tokenizer.ggml.tokens', header.path);
  const types = required(read.numbers('tokenizer.ggml.token_type'), 'tokenizer.ggml.token_type', header.path);
  if (types.length !== tokens.length) refuse(header, `it has ${tokens.length} tokens and ${types.length} token types`);
  const rows = tokens.map((content, id) => ({ content, id, type: types[id] })).filter(({ type }) => type !== tokenTypes.unused);
  const vocabulary = Object.fromEntries(rows.map(({ content, id }) => [content, id]));
  if (Object.keys(vocabulary).length !== rows.length) refuse(header, 'a token is there twice in tokenizer.ggml.tokens');
  const bos = tokenAt(header, read, tokens, 'bos');
  const addsBos = read.boolean('tokenizer.ggml.add_bos_token') ?? pre.addsBos;
  return {
    tokenizerJson: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: rows.filter(({ type }) => type === tokenTypes.control || type === tokenTypes.userDefined).map(addedToken),
      normalizer: pre.normalizer,
      pre_tokenizer: pre.preTokenizer,
      post_processor: addsBos && bos !== undefined ? beginsWith(bos, vocabulary[bos] ?? 0) : null,
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: '',
        end_of_word_suffix: '',
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: pre.ignoresMerges,
        vocab: vocabulary,
        merges: mergesOf(header, read, vocabulary),
      },
    },
    tokenizerConfigJson: tokenizerConfig(header, read, tokens),
  };
};

/**
 * Refuses a tokenizer.json that gives an ordinary token of the GGUF beside it another id. Added tokens are not compared, since the GGUF may
 * spell them otherwise, nor are tokenizers that are no byte-level BPE.
 */
export const checkTokenizerFitsGguf = (tokenizerJson: unknown, header: GgufHeader, tokenizerPath: string): void => {
  const read = metadataReader(header);
  const tokens = read.strings('tokenizer.ggml.tokens');
  const types = read.numbers('tokenizer.ggml.token_type');
  const parsed = vocabularySchema.safeParse(tokenizerJson);
  if (read.string('tokenizer.ggml.model') !== 'gpt2' || tokens === undefined || types === undefined || !parsed.success) return;
  const vocabulary = new Map(Object.entries(parsed.data.model.vocab));
  const wrong = tokens.findIndex((token, id) => types[id] === tokenTypes.normal && vocabulary.get(token) !== id);
  if (wrong === -1) return;
  const token = tokens[wrong] ?? '';
  throw new UserError(
    `${tokenizerPath} is not the tokenizer of ${header.path}: token ${JSON.stringify(token)} has id ${wrong} in the GGUF and ` +
      `${vocabulary.get(token) ?? 'none'} in tokenizer.json. Put the right tokenizer.json there, or remove it: the GGUF has one inside.`,
  );
};

const vocabularySchema = z.object({ model: z.object({ vocab: z.record(z.string(), z.number()) }) });

const refuse = (header: GgufHeader, problem: string): never => {
  throw new UserError(`No tokenizer can be made from ${header.path}: ${problem}. Put the model's tokenizer.json beside the file.`);
};

const preTokenizerOf = (header: GgufHeader, read: MetadataReader): PreTokenizer => {
  const known = Object.keys(preTokenizers).join(', ');
  const name =
    read.string('tokenizer.ggml.pre') ?? refuse(header, `it does not say how to split text (tokenizer.ggml.pre; known: ${known})`);
  const row = Object.hasOwn(preTokenizers, name) ? preTokenizers[name] : undefined;
  // A guess would give other tokens than the model was trained on, and nothing would show it but worse answers.
  return row ?? refuse(header, `its way of splitting text, ${name} (tokenizer.ggml.pre), is unknown; known: ${known}`);
};

const addedToken = ({ content, id, type }: { content: string; id: number; type: number | undefined }) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: type === tokenTypes.control,
});

const mergesOf = (header: GgufHeader, read: MetadataReader, vocabulary: Readonly<Record<string, number>>): [string, string][] =>
  required(read.strings('tokenizer.ggml.merges'), 'tokenizer.ggml.merges', header.path).map((merge, index) => {
    const [left, right, ...rest] = merge.split(' ');
    const isWhole = left !== undefined && right !== undefined && rest.length === 0;
    if (!isWhole || ![left, right, left + right].every((token) => Object.hasOwn(vocabulary, token))) {
      return refuse(header, `merge ${index + 1}, ${JSON.stringify(merge)}, is not of two tokens into a third`);
    }
    return [left, right];
  });

const tokenAt = (header: GgufHeader, read: MetadataReader, tokens: readonly string[], role: string): string | undefined => {
  const key = `tokenizer.ggml.${role}_token_id`;
  const id = read.number(key);
  return id === undefined ? undefined : (tokens[id] ?? refuse(header, `${key} is ${id}, but there are ${tokens.length} tokens`));
};

const beginsWith = (bos: string, bosId: number) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [
    { SpecialToken: { id: bos, type_id: 0 } },
    { Sequence: { id: 'A', type_id: 0 } },
    { SpecialToken: { id: bos, type_id: 1 } },
    { Sequence: { id: 'B', type_id: 1 } },
  ],
  special_tokens: { [bos]: { id: bos, ids: [bosId], tokens: [bos] } },
});

const tokenizerConfig = (header: GgufHeader, read: MetadataReader, tokens: readonly string[]): Record<string, unknown> => {
  const roles = { bos_token: 'bos', eos_token: 'eos', pad_token: 'padding', unk_token: 'unknown' };
  const template = read.string('tokenizer.chat_template');
  const special = Object.entries(roles).flatMap(([name, role]) => {
    const token = tokenAt(header, read, tokens, role);
    return token === undefined ? [] : [[name, token]];
  });
  return {
    add_prefix_space: false,
    ...Object.fromEntries(special),
    clean_up_tokenization_spaces: false,
    ...(template === undefined ? {} : { chat_template: template }),
  };
};
