import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import { FolderInUseError, type FolderLock, lockFolder } from '../base/folder-lock.ts';
import { forEverybody, pathWithin, writeJsonAtomic } from '../base/folders.ts';
import { defaultCacheFolder } from './cache-folder.ts';
import { connectToHub, type HubConnection, HubUnreachableError } from './hub-connection.ts';
import { type DownloadProgress, downloadHubFile, type HubFile, isDownloaded } from './hub-download.ts';
import { completeModel, listingOfFolder, neededFiles, shardFiles } from './hub-files.ts';
import { askForCommit, isCommit, listHubFiles, parseHubListing } from './hub-listing.ts';
import { type HubReference, hubReferenceText, parseHubReference } from './hub-reference.ts';
import { huggingFaceCommit, huggingFaceSnapshot } from './hugging-face-cache.ts';
import { checkModelFiles } from './model-folder.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ResolveOptions {
  /** Absent: `defaultCacheFolder()`. */
  readonly cacheFolder?: string;
  /** Nothing is fetched; a model that is not wholly in the cache is refused. HF_HUB_OFFLINE=1 means the same. */
  readonly offline?: boolean;
  /** HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, RETORT_CACHE; this process's environment when absent. */
  readonly environment?: Environment;
  /** Stands for HF_ENDPOINT. */
  readonly hubUrl?: string;
  readonly onProgress?: (progress: DownloadProgress) => void;
  /** Told that the hub was not reached and the cache serves. */
  readonly onWarning?: (message: string) => void;
  /** When it is raised the download ends, with the signal's reason; what arrived is kept. */
  readonly signal?: AbortSignal;
  readonly fetch?: typeof fetch;
  readonly sleep?: (durationMs: number) => Promise<void>;
}

/**
 * The folder (or .gguf file) of a model. What lies on the disk is used as it is; `owner/name[@revision]`, or `owner/name/file.gguf` where
 * a repository has several, is downloaded from the Hugging Face hub once: configuration, tokenizer and weights, verified by their hashes,
 * continued when interrupted. What Hugging Face's own libraries have in their cache is used from there.
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
  if (options.offline === true || (environment.HF_HUB_OFFLINE ?? '0') !== '0') return fromCache(parsed, store, environment);
  const connection = connectToHub({ environment, hubUrl: options.hubUrl, fetch: options.fetch, signal: options.signal });
  try {
    return await download(parsed, store, connection, environment, options);
  } catch (error) {
    if (!(error instanceof HubUnreachableError)) throw error;
    const cached = await fromCache(parsed, store, environment).catch(() => undefined);
    if (cached === undefined) throw error;
    options.onWarning?.(`${error.message} Using the copy in the cache, ${cached}.`);
    return cached;
  }
};

/** Another process that downloads the same model is waited for: then it is there. */
const waitForLock = async (store: string, options: ResolveOptions): Promise<FolderLock> => {
  for (;;) {
    try {
      return await lockFolder(store);
    } catch (error) {
      if (!(error instanceof FolderInUseError)) throw error;
      options.signal?.throwIfAborted();
      await (options.sleep ?? systemClock.sleep)(1000);
    }
  }
};

const download = async (
  reference: HubReference,
  store: string,
  connection: HubConnection,
  environment: Environment,
  options: ResolveOptions,
): Promise<string> => {
  const commit = await commitOf(reference, store, connection, options);
  const folder = join(store, commit);
  const files = await listingOf(reference, commit, folder, connection, options);
  for (const place of [folder, huggingFaceSnapshot(reference, commit, environment)]) {
    const found = await completeModel(place, reference, files);
    if ('path' in found) return found.path;
  }
  const { onProgress, sleep, signal } = options;
  const fetchFile = async (file: HubFile) => {
    if (await isDownloaded(folder, file)) return;
    await downloadHubFile(file, pathWithin(folder, file.path), { reference, commit, connection, onProgress, sleep, signal });
  };
  const wanted = neededFiles(reference, files);
  const lock = await waitForLock(store, options);
  try {
    for (const file of wanted.files) await fetchFile(file);
    for (const file of await shardFiles(folder, wanted, files, reference)) await fetchFile(file);
  } finally {
    await lock.release();
  }
  return wanted.gguf === undefined ? folder : join(folder, wanted.gguf);
};

const commitOf = async (reference: HubReference, store: string, connection: HubConnection, options: ResolveOptions): Promise<string> => {
  if (isCommit(reference.revision)) return reference.revision;
  const commit = await askForCommit(reference, connection, options);
  await writeJsonAtomic(revisionPath(store, reference.revision), { commit }, { mode: forEverybody });
  return commit;
};

const revisionPath = (store: string, revision: string): string => join(store, 'revisions', `${encodeURIComponent(revision)}.json`);

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
  const files = await listHubFiles({ ...reference, revision: commit }, connection, options);
  neededFiles(reference, files); // a repository that is no model leaves nothing in the cache
  await writeJsonAtomic(join(folder, listingName), files, { mode: forEverybody });
  return files;
};

const readListing = async (folder: string): Promise<HubFile[] | undefined> => {
  try {
    return parseHubListing(JSON.parse(await readFile(join(folder, listingName), 'utf8')));
  } catch {
    return undefined; // absent or damaged: it is asked for again
  }
};

/** The model if it is wholly in retort's cache or in that of Hugging Face's own libraries; else a UserError that says what is missing. */
const fromCache = async (reference: HubReference, store: string, environment: Environment): Promise<string> => {
  const commit = isCommit(reference.revision) ? reference.revision : await cachedCommit(store, reference.revision);
  const folder = join(store, commit ?? '');
  const listing = commit === undefined ? undefined : await readListing(folder);
  const own = listing === undefined ? undefined : await completeModel(folder, reference, listing);
  if (own !== undefined && 'path' in own) return own.path;
  const shared = await fromHuggingFaceCache(reference, environment);
  if (shared !== undefined) return shared;
  const text = hubReferenceText(reference);
  const problem =
    own === undefined
      ? `${text} is not in the cache (${store})`
      : `of ${text} these files are not in the cache (${folder}): ${own.missing.join(', ')}`;
  throw new UserError(`Offline, and ${problem}. Run once without --offline, or give the folder of a model.`);
};

const fromHuggingFaceCache = async (reference: HubReference, environment: Environment): Promise<string | undefined> => {
  const commit = await huggingFaceCommit(reference, environment);
  if (commit === undefined) return undefined;
  const folder = huggingFaceSnapshot(reference, commit, environment);
  try {
    const found = await completeModel(folder, reference, await listingOfFolder(folder));
    return 'path' in found ? found.path : undefined;
  } catch {
    return undefined; // a snapshot without weights, or without all of them
  }
};

const cachedCommit = async (store: string, revision: string): Promise<string | undefined> => {
  try {
    return z.object({ commit: z.string() }).parse(JSON.parse(await readFile(revisionPath(store, revision), 'utf8'))).commit;
  } catch {
    return undefined; // never asked for
  }
};
