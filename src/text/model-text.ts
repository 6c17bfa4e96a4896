import { z } from 'zod';
import { readModelConfiguration, readTokenizerFiles } from '../weights/model-folder.ts';
import type { TokenizerFiles } from '../weights/tensor-source.ts';
import { type ChatTemplate, createChatTemplate, plainTemplateSource, rawTemplateSource } from './chat-template.ts';
import { checkTokenizerFits, createTokenizer, type Tokenizer } from './tokenizer.ts';
import { parseTokenizerFiles } from './tokenizer-files.ts';
import { endTokens } from './training-row.ts';

/** What a model's files say about text, as parsed. */
export interface ModelTextFiles extends TokenizerFiles {
  readonly generationConfig?: unknown;
  /** config.json. */
  readonly modelConfig?: unknown;
}

/** All that is needed to talk to a model in token ids. */
export interface ModelText {
  readonly tokenizer: Tokenizer;
  /** The model's own template; where it has none the plain fallback, which `template.name` says. */
  readonly template: ChatTemplate;
  /** Every id at which generation stops. */
  readonly endTokens: readonly number[];
}

export interface ModelTextOptions {
  /** The date that templates are shown, ISO; absent: a pinned one, never today's. */
  readonly date?: string;
  /** Further variables of the template: `{ enable_thinking: false }`. */
  readonly variables?: Readonly<Record<string, string | number | boolean>>;
  /** Whether chats are rendered as text and nothing else, without the template that the model was trained with. */
  readonly isRaw?: boolean;
}

/** Puts a model's tokenizer, chat template and end tokens together. A tokenizer with more ids than config.json's `vocab_size` is refused. */
export const createModelText = (files: ModelTextFiles, options: ModelTextOptions = {}, where = 'the model folder'): ModelText => {
  const { tokenizerJson, tokenizerConfigJson, generationConfig, modelConfig } = files;
  const tokenizer = createTokenizer({ tokenizerJson, tokenizerConfigJson });
  const size = z.looseObject({ vocab_size: z.number() }).safeParse(modelConfig);
  if (size.success) checkTokenizerFits(tokenizer, size.data.vocab_size, where);
  const { chatTemplate, named } = parseTokenizerFiles({ tokenizerJson, tokenizerConfigJson });
  const { isRaw = false, ...templateOptions } = options;
  const template = createChatTemplate(isRaw ? rawTemplateSource : (chatTemplate ?? plainTemplateSource), {
    ...templateOptions,
    ...(isRaw && { variables: { raw_prefix: tokenizer.decode(tokenizer.rawPrefix) } }),
    name: isRaw ? 'raw text' : chatTemplate === undefined ? 'plain fallback' : "the model's own",
    bosToken: tokenizer.bosToken?.token,
    eosToken: tokenizer.eosToken?.token,
    padToken: tokenizer.padToken?.token,
    unknownToken: named.unknown,
  });
  return { tokenizer, template, endTokens: endTokens([generationConfig, modelConfig], tokenizer, template) };
};

/** `createModelText` of a model folder or a .gguf file. */
export const loadModelText = async (path: string, options: ModelTextOptions = {}): Promise<ModelText> => {
  const { tokenizerJson, tokenizerConfigJson } = await readTokenizerFiles(path);
  const { config, generationConfig } = await readModelConfiguration(path);
  return createModelText({ tokenizerJson, tokenizerConfigJson, generationConfig, modelConfig: config }, options, path);
};

/** The tokenizer of a model folder or a .gguf file, alone. */
export const loadTokenizer = async (path: string): Promise<Tokenizer> => {
  const { tokenizerJson, tokenizerConfigJson } = await readTokenizerFiles(path);
  return createTokenizer({ tokenizerJson, tokenizerConfigJson });
};
