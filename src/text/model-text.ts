import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';
import { type ChatTemplate, createChatTemplate, plainTemplateSource } from './chat-template.ts';
import { createTokenizer, type Tokenizer } from './tokenizer.ts';
import { parseTokenizerFiles } from './tokenizer-files.ts';
import { endTokens } from './training-row.ts';

/** What a model's folder says about text, as parsed files. Any of them may come from elsewhere (a GGUF's metadata). */
export interface ModelTextFiles {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig?: unknown;
  readonly generationConfig?: unknown;
  /** config.json. */
  readonly modelConfig?: unknown;
  /** chat_template.jinja, which goes before the template of tokenizer_config.json. */
  readonly chatTemplate?: string | undefined;
}

/** All that is needed to talk to a model in token ids. */
export interface ModelText {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** Every id at which generation stops. */
  readonly endTokens: readonly number[];
}

/** Puts a model's tokenizer, chat template and end tokens together. Without a chat template the plain fallback serves, and its name says so. */
export const createModelText = (files: ModelTextFiles, options: { readonly date?: string } = {}): ModelText => {
  const tokenizerConfig = files.tokenizerConfig ?? {};
  const tokenizer = createTokenizer({ tokenizerJson: files.tokenizerJson, tokenizerConfig });
  const configured =
    files.chatTemplate === undefined
      ? parseTokenizerFiles({ tokenizerJson: files.tokenizerJson, tokenizerConfig }).chatTemplate
      : undefined;
  const name =
    files.chatTemplate !== undefined ? 'chat_template.jinja' : configured !== undefined ? 'tokenizer_config.json' : 'plain fallback';
  const template = createChatTemplate(files.chatTemplate ?? configured ?? plainTemplateSource, {
    ...options,
    name,
    bosToken: tokenizer.bosToken?.token,
    eosToken: tokenizer.eosToken?.token,
  });
  return { tokenizer, template, endTokens: endTokens([files.generationConfig, files.modelConfig], tokenizer, template) };
};

/** Reads a folder's tokenizer.json, and beside it, where they are, tokenizer_config.json, generation_config.json, config.json and chat_template.jinja. */
export const readModelTextFiles = async (folder: string): Promise<ModelTextFiles> => {
  const tokenizerJson = await readJson(folder, 'tokenizer.json');
  if (tokenizerJson === undefined) {
    throw new UserError(
      `No tokenizer.json in ${folder}. A model folder needs config.json, weights and tokenizer.json: fetch the missing file.`,
    );
  }
  return {
    tokenizerJson,
    tokenizerConfig: await readJson(folder, 'tokenizer_config.json'),
    generationConfig: await readJson(folder, 'generation_config.json'),
    modelConfig: await readJson(folder, 'config.json'),
    chatTemplate: await readText(folder, 'chat_template.jinja'),
  };
};

/** `createModelText` of a folder's files. */
export const loadModelText = async (folder: string, options: { readonly date?: string } = {}): Promise<ModelText> =>
  createModelText(await readModelTextFiles(folder), options);

/** The tokenizer of a folder, alone. */
export const loadTokenizer = async (folder: string): Promise<Tokenizer> => {
  const { tokenizerJson, tokenizerConfig = {} } = await readModelTextFiles(folder);
  return createTokenizer({ tokenizerJson, tokenizerConfig });
};

const readText = async (folder: string, name: string): Promise<string | undefined> => {
  try {
    return await readFile(join(folder, name), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new UserError(`${join(folder, name)} cannot be read: ${messageOf(error)}`, { cause: error });
  }
};

const readJson = async (folder: string, name: string): Promise<unknown> => {
  const text = await readText(folder, name);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${join(folder, name)} is not JSON: ${messageOf(error)}. Fetch the file again.`, { cause: error });
  }
};
