import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { type HubFile, isDownloaded } from './hub-download.ts';
import { type HubReference, hubReferenceText } from './hub-reference.ts';
import { readShardIndex } from './safetensors.ts';

const besideWeights: readonly string[] = [
  ...['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'],
  ...['special_tokens_map.json', 'added_tokens.json', 'LICENSE', 'LICENSE.txt'],
];
const [singleName, indexName] = ['model.safetensors', 'model.safetensors.index.json'];

export interface NeededFiles {
  readonly files: readonly HubFile[];
  readonly gguf: string | undefined;
  readonly hasShards: boolean;
}

/** The files that a model is read from: what lies beside the weights, and one kind of weights. Shards are in the index, not here. */
export const neededFiles = (reference: HubReference, listing: readonly HubFile[]): NeededFiles => {
  const text = hubReferenceText(reference);
  const named = (name: string) => listing.filter(({ path }) => path === name);
  const beside = besideWeights.flatMap(named);
  const ggufs = listing.map(({ path }) => path).filter((path) => path.endsWith('.gguf'));
  const gguf = (name: string): NeededFiles => ({ files: [...beside, ...named(name)], gguf: name, hasShards: false });
  if (reference.ggufFile !== undefined) {
    if (ggufs.includes(reference.ggufFile)) return gguf(reference.ggufFile);
    throw new UserError(`${reference.name} has no ${reference.ggufFile}. Its .gguf files: ${ggufs.join(', ') || 'none'}.`);
  }
  for (const name of [singleName, indexName]) {
    const weights = named(name);
    if (weights.length > 0 && named('config.json').length > 0) {
      return { files: [...beside, ...weights], gguf: undefined, hasShards: name === indexName };
    }
  }
  const [only] = ggufs;
  if (only !== undefined && ggufs.length === 1) return gguf(only);
  if (only !== undefined)
    throw new UserError(`${text} has ${ggufs.length} .gguf files. Name one, as ${reference.name}/${only}: ${ggufs.join(', ')}.`);
  const present = listing
    .map(({ path }) => path)
    .slice(0, 12)
    .join(', ');
  throw new UserError(
    `${text} is no model that retort reads. Looked for config.json with ${singleName} or ${indexName}, or a .gguf; there are: ${present || 'no files'}.`,
  );
};

/** The shards that the index names, once the index is in the folder. */
export const shardFiles = async (
  folder: string,
  wanted: NeededFiles,
  listing: readonly HubFile[],
  reference: HubReference,
): Promise<HubFile[]> => {
  if (!wanted.hasShards) return [];
  const weightMap = await readShardIndex(join(folder, indexName));
  return [...new Set(Object.values(weightMap))].sort().map((name) => {
    const file = listing.find(({ path }) => path === name);
    if (file === undefined)
      throw new UserError(`${hubReferenceText(reference)}: ${indexName} names ${name}, which the repository does not have.`);
    return file;
  });
};

/** The model in a folder when every file of it is there in its listed size: the folder, or the path of its .gguf. */
export const completeModel = async (
  folder: string,
  reference: HubReference,
  listing: readonly HubFile[],
): Promise<{ readonly path: string } | { readonly missing: readonly string[] }> => {
  const wanted = neededFiles(reference, listing);
  const missing = await missingFrom(folder, wanted.files);
  if (missing.length > 0) return { missing };
  const missingShards = await missingFrom(folder, await shardFiles(folder, wanted, listing, reference));
  if (missingShards.length > 0) return { missing: missingShards };
  return { path: wanted.gguf === undefined ? folder : join(folder, wanted.gguf) };
};

const missingFrom = async (folder: string, files: readonly HubFile[]): Promise<string[]> => {
  const states = await Promise.all(files.map(async (file) => ({ file, isThere: await isDownloaded(folder, file) })));
  return states.filter(({ isThere }) => !isThere).map(({ file }) => file.path);
};

/** What lies in a folder, as a hub would list it; nothing where there is no folder. */
export const listingOfFolder = async (folder: string): Promise<HubFile[]> => {
  const names = await readdir(folder).catch(() => []);
  return Promise.all(names.map(async (path) => ({ path, size: (await stat(join(folder, path))).size })));
};
