import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import { FolderInUseError, type FolderLock, lockFolder } from '../base/folder-lock.ts';
import { pathWithin, writeJsonAtomic } from '../base/folders.ts';
import { defaultCacheFolder } from './cache-folder.ts';
import { connectToHub, type HubConnection, HubUnreachableError, hubFailure, isTransient } from './hub-connection.ts';
import { type DownloadProgress, downloadHubFile, type HubFile, isDownloaded } from './hub-download.ts';
import { type HubReference, hubReferenceText, parseHubReference } from './hub-reference.ts';
import { checkModelFiles } from './model-folder.ts';
import { readShardIndex } from './safetensors.ts';

export interface ResolveOptions {
  /** Absent: `defaultCacheFolder()`. */
  readonly cacheFolder?: string;
  /** Nothing is fetched; a model that is not wholly in the cache is refused. HF_HUB_OFFLINE=1 means the same. */
  readonly offline?: boolean;
  /** HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, RETORT_CACHE; this process's environment when absent. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Stands for HF_ENDPOINT. */
  readonly hubUrl?: string;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Told that the hub was not reached and the cache serves. */
  readonly onWarning?: (message: string) => void;
  readonly fetch?: typeof fetch;
  readonly sleep?: (durationMs: number) => Promise<void>;
}

/**
 * The folder (or .gguf file) of a model. What lies on the disk is used as it is; `owner/name[@revision]`, or `owner/name/file.gguf` where
 * a repository has several, is downloaded from the Hugging Face hub once: configuration, tokenizer and weights, verified by their hashes,
 * continued when interrupted.
 */
export const resolveModel = async (reference: string, options: ResolveOptions = {}): Promise<string> => {
  const path = reference.startsWith('~/') ? join(homedir(), reference.slice(2)) : resolve(reference);
  const isThere = !reference.startsWith('hub:') && (await stat(path).catch(() => undefined)) !== undefined;
  if (isThere) {
    await checkModelFiles(path);
    return path;
  }
  const parsed = parseHubReference(reference);
  if (parsed === undefined) {
    throw new UserError(`There is no model at ${path}. Give a folder, a .gguf file, or owner/name of a model on the Hugging Face hub.`);
  }
  // biome-ignore lint/style/noProcessEnv: the default of an argument; who wants another environment gives one
  const environment = options.environment ?? process.env;
  const cacheFolder = options.cacheFolder ?? defaultCacheFolder({ environment, platform: process.platform, home: homedir() });
  const store = join(cacheFolder, 'models', parsed.name.replace('/', '--'));
  if (options.offline === true || (environment.HF_HUB_OFFLINE ?? '0') !== '0') return fromCache(parsed, store);
  const connection = connectToHub({ environment, hubUrl: options.hubUrl, fetch: options.fetch });
  const lock = await waitForLock(store, options);
  try {
    return await download(parsed, store, connection, options);
  } catch (error) {
    if (!(error instanceof HubUnreachableError)) throw error;
    const cached = await fromCache(parsed, store).catch(() => undefined);
    if (cached === undefined) throw error;
    options.onWarning?.(`${error.message} Using the copy in the cache, ${cached}.`);
    return cached;
  } finally {
    await lock.release();
  }
};

/** Another process that downloads the same model is waited for: then it is there. */
const waitForLock = async (store: string, options: ResolveOptions): Promise<FolderLock> => {
  for (;;) {
    try {
      return await lockFolder(store);
    } catch (error) {
      if (!(error instanceof FolderInUseError)) throw error;
      await (options.sleep ?? systemClock.sleep)(1000);
    }
  }
};

const download = async (reference: HubReference, store: string, connection: HubConnection, options: ResolveOptions): Promise<string> => {
  const commit = await commitOf(reference, store, connection, options);
  const folder = join(store, commit);
  const files = await listingOf(reference, commit, folder, connection, options);
  const fetchFile = async (file: HubFile) => {
    if (await isDownloaded(folder, file)) return;
    const { onProgress, sleep } = options;
    await downloadHubFile(file, pathWithin(folder, file.path), { reference, commit, connection, onProgress, sleep });
  };
  const wanted = neededFiles(reference, files);
  for (const file of wanted.files) await fetchFile(file);
  for (const file of await shardFiles(folder, wanted, files, reference)) await fetchFile(file);
  return wanted.gguf === undefined ? folder : join(folder, wanted.gguf);
};

const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

const commitOf = async (reference: HubReference, store: string, connection: HubConnection, options: ResolveOptions): Promise<string> => {
  if (isCommit(reference.revision)) return reference.revision;
  const { name, revision } = reference;
  const { url, fetch } = connection;
  const ask = () => modelInfo({ name, revision, additionalFields: ['sha'], hubUrl: url, fetch });
  const { sha } = await askHub(reference, connection, options, ask);
  if (!isCommit(sha)) throw new UserError(`${url} names no commit for ${hubReferenceText(reference)}: it says ${JSON.stringify(sha)}.`);
  await writeJsonAtomic(revisionPath(store, revision), { commit: sha });
  return sha;
};

/** A question to the hub, asked again when it is overloaded. When it cannot be reached at all, waiting would only delay the message. */
const askHub = async <T>(
  reference: HubReference,
  connection: HubConnection,
  { sleep = systemClock.sleep }: ResolveOptions,
  ask: () => Promise<T>,
): Promise<T> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof HubApiError && isTransient(error)) || attempt === 4) throw hubFailure(error, reference, connection);
      await sleep(1000 * 2 ** attempt);
    }
  }
};

const revisionPath = (store: string, revision: string): string => join(store, 'revisions', `${encodeURIComponent(revision)}.json`);

const listingSchema = z.array(
  z.object({
    path: z.string(),
    size: z.number(),
    oid: z.string().exactOptional(),
    lfs: z.object({ oid: z.string() }).exactOptional(),
    xetHash: z.string().exactOptional(),
  }),
);

/** Beside the files of a commit lies what the hub lists for it, so that the cache knows what is missing. Commits do not change. */
const listingName = 'hub-files.json';

const listingOf = async (
  reference: HubReference,
  commit: string,
  folder: string,
  connection: HubConnection,
  options: ResolveOptions,
): Promise<HubFile[]> => {
  const known = await readListing(folder);
  if (known !== undefined) return known;
  const files = await askHub(reference, connection, options, () => listHubFiles(reference, commit, connection));
  neededFiles(reference, files); // a repository that is no model leaves nothing in the cache
  await writeJsonAtomic(join(folder, listingName), files);
  return files;
};

const listHubFiles = async (reference: HubReference, commit: string, { url, fetch }: HubConnection): Promise<HubFile[]> => {
  const files: unknown[] = [];
  for await (const entry of listFiles({ repo: reference.name, revision: commit, hubUrl: url, fetch })) {
    if (entry.type === 'file') files.push(entry);
  }
  const parsed = listingSchema.safeParse(files);
  if (parsed.success) return parsed.data;
  throw new UserError(
    `${url} lists the files of ${hubReferenceText(reference)} in a way that is not understood: ${z.prettifyError(parsed.error)}`,
  );
};

const readListing = async (folder: string): Promise<HubFile[] | undefined> => {
  try {
    return listingSchema.parse(JSON.parse(await readFile(join(folder, listingName), 'utf8')));
  } catch {
    return undefined; // absent or damaged: it is asked for again
  }
};

const besideWeights: readonly string[] = [
  ...['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'],
  ...['special_tokens_map.json', 'added_tokens.json', 'LICENSE', 'LICENSE.txt'],
];
const [singleName, indexName] = ['model.safetensors', 'model.safetensors.index.json'];

interface NeededFiles {
  readonly files: readonly HubFile[];
  readonly gguf: string | undefined;
  readonly hasShards: boolean;
}

/** The files that a model is read from: what lies beside the weights, and one kind of weights. Shards are in the index, not here. */
const neededFiles = (reference: HubReference, listing: readonly HubFile[]): NeededFiles => {
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

const shardFiles = async (
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

/** The model if it is wholly in the cache; else a UserError that says what is missing. */
const fromCache = async (reference: HubReference, store: string): Promise<string> => {
  const text = hubReferenceText(reference);
  const advice = 'Run once without --offline, or give the folder of a model.';
  const commit = isCommit(reference.revision) ? reference.revision : await cachedCommit(store, reference.revision);
  const folder = join(store, commit ?? '');
  const listing = commit === undefined ? undefined : await readListing(folder);
  if (listing === undefined) throw new UserError(`Offline, and ${text} is not in the cache (${store}). ${advice}`);
  const wanted = neededFiles(reference, listing);
  const missing = await missingFrom(folder, wanted.files);
  const missingShards = missing.length > 0 ? [] : await missingFrom(folder, await shardFiles(folder, wanted, listing, reference));
  if (missing.length + missingShards.length > 0) {
    throw new UserError(
      `Offline, and of ${text} these files are not in the cache (${folder}): ${[...missing, ...missingShards].join(', ')}. ${advice}`,
    );
  }
  return wanted.gguf === undefined ? folder : join(folder, wanted.gguf);
};

const missingFrom = async (folder: string, files: readonly HubFile[]): Promise<string[]> => {
  const states = await Promise.all(files.map(async (file) => ({ file, isThere: await isDownloaded(folder, file) })));
  return states.filter(({ isThere }) => !isThere).map(({ file }) => file.path);
};

const cachedCommit = async (store: string, revision: string): Promise<string | undefined> => {
  try {
    return z.object({ commit: z.string() }).parse(JSON.parse(await readFile(revisionPath(store, revision), 'utf8'))).commit;
  } catch {
    return undefined; // never asked for
  }
};
