import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';
import { openGguf, readGgufFileHeader } from './gguf.ts';
import { checkConfigFitsGguf, configurationFromGguf } from './gguf-config.ts';
import type { GgufHeader } from './gguf-file.ts';
import { checkTokenizerFitsGguf, tokenizerFromGguf } from './gguf-tokenizer.ts';
import { openSafetensors, openShardedSafetensors } from './safetensors.ts';
import type { TensorSource, TokenizerFiles } from './tensor-source.ts';

/** A model on disk with its weights open. Whoever opens it closes `tensors`. */
export interface ModelFolder {
  readonly folder: string;
  /** config.json as parsed, or made from a GGUF's metadata where there is none. */
  readonly config: unknown;
  /** generation_config.json as parsed, if there is one. */
  readonly generationConfig: unknown;
  readonly tensors: TensorSource;
  readonly tokenizerFiles: () => Promise<TokenizerFiles>;
}

/** config.json and generation_config.json (undefined if absent), without the weights: enough to draw weights anew. */
export interface ModelConfiguration {
  readonly config: unknown;
  readonly generationConfig: unknown;
}

/**
 * Opens a folder with config.json and weights (model.safetensors, or model.safetensors.index.json with its shards, or exactly one .gguf),
 * or a .gguf file itself. Where both lie there, the safetensors count: they are the less quantised.
 */
export const openModelFolder = async (path: string): Promise<ModelFolder> => {
  const layout = await findModelFiles(path);
  const configuration = await configurationOf(layout);
  return {
    folder: layout.folder,
    ...configuration,
    tensors: await openWeights(layout),
    tokenizerFiles: () => tokenizerFilesOf(layout),
  };
};

/** The fingerprint of the weights of a model folder or .gguf: SHA-256 over their bytes. */
export const modelFingerprint = async (path: string): Promise<string> => {
  const tensors = await openWeights(await findModelFiles(path));
  try {
    return await tensors.fingerprint();
  } finally {
    await tensors.close();
  }
};

/** The configuration of a model folder or .gguf, without opening weights. */
export const readModelConfiguration = async (path: string): Promise<ModelConfiguration> => configurationOf(await findModelFiles(path));

/** The tokenizer's files of a model folder or .gguf; built from the GGUF's metadata where no tokenizer.json lies beside it. */
export const readTokenizerFiles = async (path: string): Promise<TokenizerFiles> => tokenizerFilesOf(await findModelFiles(path));

/** Whether a path is a folder with a model's configuration, or a .gguf file; else a UserError that says what was looked for. */
export const checkModelFiles = async (path: string): Promise<void> => {
  const { folder, weights } = await findModelFiles(path);
  if (weights === undefined && (await readTextIfThere(join(folder, 'config.json'))) === undefined) throw await noModel(folder);
};

/** What of a model lies where. */
interface ModelFiles {
  readonly folder: string;
  readonly weights: WeightFiles | undefined;
}

type WeightFiles =
  | { readonly kind: 'single' | 'sharded'; readonly path: string }
  /** The header holds the vocabulary, so it is read once for weights, configuration and tokenizer. */
  | { readonly kind: 'gguf'; readonly path: string; readonly header: () => Promise<GgufHeader> };

const ggufAt = (path: string): WeightFiles => {
  let reading: Promise<GgufHeader> | undefined;
  const header = () => {
    reading ??= readGgufFileHeader(path);
    return reading;
  };
  return { kind: 'gguf', path, header };
};

const weightNames = ['model.safetensors', 'model.safetensors.index.json'] as const;

const findModelFiles = async (path: string): Promise<ModelFiles> => {
  const status = await stat(path).catch((error: unknown) => {
    throw new UserError(`There is no model at ${path}: ${messageOf(error)}`, { cause: error });
  });
  if (!status.isDirectory()) {
    if (path.endsWith('.gguf')) return { folder: dirname(path), weights: ggufAt(path) };
    throw new UserError(`${path} is neither a folder nor a .gguf file. Give the folder of the model.`);
  }
  const present = await readdir(path);
  const [single, sharded] = weightNames;
  if (present.includes(single)) return { folder: path, weights: { kind: 'single', path: join(path, single) } };
  if (present.includes(sharded)) return { folder: path, weights: { kind: 'sharded', path: join(path, sharded) } };
  const ggufs = present.filter((name) => name.endsWith('.gguf'));
  if (ggufs.length > 1) {
    throw new UserError(`${path} has ${ggufs.length} .gguf files: ${ggufs.sort().join(', ')}. Give the path of the one that is meant.`);
  }
  return { folder: path, weights: ggufs[0] === undefined ? undefined : ggufAt(join(path, ggufs[0])) };
};

const openWeights = async ({ folder, weights }: ModelFiles): Promise<TensorSource> => {
  if (weights === undefined) {
    throw new UserError(
      `${folder} has no weights that retort reads. Looked for ${weightNames.join(', ')} and *.gguf; there are: ${await listing(folder)}.`,
    );
  }
  switch (weights.kind) {
    case 'single':
      return openSafetensors(weights.path);
    case 'sharded':
      return openShardedSafetensors(weights.path);
    case 'gguf':
      return openGguf(weights.path, await weights.header());
  }
};

const configurationOf = async ({ folder, weights }: ModelFiles): Promise<ModelConfiguration> => {
  const configPath = join(folder, 'config.json');
  const config = await readJsonIfThere(configPath);
  const generationConfig = await readJsonIfThere(join(folder, 'generation_config.json'));
  if (weights?.kind === 'gguf') {
    const header = await weights.header();
    if (config !== undefined) {
      checkConfigFitsGguf(config, header, configPath);
      return { config, generationConfig };
    }
    const made = await configurationFromGguf(header);
    return { config: made.config, generationConfig: generationConfig ?? made.generationConfig };
  }
  if (config === undefined) {
    throw await noModel(folder);
  }
  return { config, generationConfig };
};

const noModel = async (folder: string): Promise<UserError> =>
  new UserError(`${folder} is no model: it has neither config.json nor a .gguf file. There are: ${await listing(folder)}.`);

const tokenizerFilesOf = async ({ folder, weights }: ModelFiles): Promise<TokenizerFiles> => {
  const tokenizerPath = join(folder, 'tokenizer.json');
  const tokenizerJson = await readJsonIfThere(tokenizerPath);
  if (tokenizerJson === undefined) {
    if (weights?.kind === 'gguf') return tokenizerFromGguf(await weights.header());
    throw new UserError(`${folder} has no tokenizer.json. There are: ${await listing(folder)}.`);
  }
  if (weights?.kind === 'gguf') checkTokenizerFitsGguf(tokenizerJson, await weights.header(), tokenizerPath);
  const tokenizerConfigJson = await readJsonIfThere(join(folder, 'tokenizer_config.json'));
  // Newer releases of transformers keep the template in a file of its own, which then counts.
  const template = await readTextIfThere(join(folder, 'chat_template.jinja'));
  const config = typeof tokenizerConfigJson === 'object' ? tokenizerConfigJson : {};
  return { tokenizerJson, tokenizerConfigJson: template === undefined ? config : { ...config, chat_template: template } };
};

const listing = async (folder: string): Promise<string> => {
  const names = (await readdir(folder)).sort();
  const shown = names.slice(0, 12).join(', ');
  return names.length === 0 ? 'no files' : names.length > 12 ? `${shown} and ${names.length - 12} more` : shown;
};

const readJsonIfThere = async (path: string): Promise<unknown> => {
  const text = await readTextIfThere(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${basename(path)} in ${dirname(path)} is not JSON: ${messageOf(error)}`, { cause: error });
  }
};

const readTextIfThere = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
};
