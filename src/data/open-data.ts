import { readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { UserError } from '../base/errors.ts';
import { pathWithin } from '../base/folders.ts';
import { type ByteFile, openByteFile } from '../weights/byte-file.ts';
import { connectToHub } from '../weights/hub-connection.ts';
import { type HubFile, isDownloaded } from '../weights/hub-download.ts';
import { type AskOptions, askForCommit, isCommit, listHubFiles } from '../weights/hub-listing.ts';
import { openHubFile } from '../weights/hub-range.ts';
import { type HubDataReference, parseHubDataReference } from '../weights/hub-reference.ts';
import { huggingFaceCommit, huggingFaceSnapshot } from '../weights/hugging-face-cache.ts';
import { type DataListing, splitFiles } from './split-files.ts';

/** What reading data may need from outside. */
export interface DataAccess extends AskOptions {
  /** HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME; this process's environment when absent. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Nothing is fetched. */
  readonly offline?: boolean;
  readonly fetch?: typeof fetch;
  /** A line that a reader wants to know. */
  readonly say?: (line: string) => void;
}

/** A file of data, not yet open. */
export interface DataFile {
  /** For messages: its path, or `hub:owner/name/path`. */
  readonly name: string;
  open(): Promise<ByteFile>;
}

/**
 * The files of a split of `source`: a file, a folder, or `hub:owner/name[/subset, folder, file or pattern][@revision]`. `what` says in
 * messages what the data are for.
 */
export const openData = async (source: string, split: string, what: string, access: DataAccess = {}): Promise<readonly DataFile[]> => {
  if (source.startsWith('hub:')) return openHubData(source, split, access);
  const path = resolve(source);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw new UserError(
      `No data for ${what} at ${source}. Give a file (.jsonl, .json, .csv, .tsv, .parquet), a folder with ${split}.jsonl, or hub:owner/name.`,
    );
  }
  if (!found.isDirectory()) return [localFile(source)];
  const listing = await folderListing(source);
  return splitFiles(listing, { split }).map((file) => localFile(join(source, file)));
};

const localFile = (path: string): DataFile => ({ name: path, open: () => openByteFile(path) });

/** A folder's own files and those one folder below: where data sets keep them. */
const folderListing = async (folder: string): Promise<DataListing> => {
  const paths: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) paths.push(entry.name);
    else for (const name of await readdir(join(folder, entry.name)).catch(() => [])) paths.push(`${entry.name}/${name}`);
  }
  const readme = paths.includes('README.md') ? await readFile(join(folder, 'README.md'), 'utf8') : undefined;
  return { name: folder, paths, ...(readme !== undefined && { readme }) };
};

const openHubData = async (source: string, split: string, access: DataAccess): Promise<readonly DataFile[]> => {
  const reference = parseHubDataReference(source);
  if (reference === undefined) {
    throw new UserError(
      `${source} names no data on the hub. Expected hub:owner/name, hub:owner/name/subset, hub:owner/name/file@revision.`,
    );
  }
  // biome-ignore lint/style/noProcessEnv: the default of an argument; who wants another environment gives one
  const environment = access.environment ?? process.env;
  if (access.offline === true || (environment.HF_HUB_OFFLINE ?? '0') !== '0') return fromSnapshot(reference, source, split, environment);
  const connection = connectToHub({ environment, hubUrl: undefined, fetch: access.fetch, signal: access.signal });
  const commit = isCommit(reference.revision) ? reference.revision : await askForCommit(reference, connection, access);
  if (commit !== reference.revision) access.say?.(`hub:${reference.name} is read as of commit ${commit}; write @${commit} to keep to it.`);
  const repository = { ...reference, revision: commit };
  const files = await listHubFiles(repository, connection, access);
  const snapshot = huggingFaceSnapshot(reference, commit, environment);
  const opener = (file: HubFile) => async (): Promise<ByteFile> =>
    (await isDownloaded(snapshot, file))
      ? openByteFile(pathWithin(snapshot, file.path))
      : openHubFile(file, repository, connection, access);
  const byPath = new Map(files.map((file) => [file.path, { name: `hub:${reference.name}/${file.path}`, open: opener(file) }]));
  const readme = byPath.get('README.md');
  const listing = {
    name: `hub:${reference.name}`,
    paths: [...byPath.keys()],
    ...(readme !== undefined && { readme: await readText(readme) }),
  };
  return splitFiles(listing, { split, path: reference.path }).flatMap((path) => byPath.get(path) ?? []);
};

const readText = async (file: DataFile): Promise<string> => {
  const opened = await file.open();
  try {
    const bytes = new Uint8Array(opened.sizeBytes);
    await opened.readInto(bytes, 0, 'its content');
    return new TextDecoder().decode(bytes);
  } finally {
    await opened.close();
  }
};

/** What Hugging Face's own libraries downloaded before. */
const fromSnapshot = async (
  reference: HubDataReference,
  source: string,
  split: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<readonly DataFile[]> => {
  const commit = await huggingFaceCommit(reference, environment);
  const folder = huggingFaceSnapshot(reference, commit ?? '', environment);
  const entries = commit === undefined ? [] : await readdir(folder, { recursive: true }).catch(() => []);
  if (entries.length === 0) {
    throw new UserError(
      `Offline, and ${source} is not in the cache of Hugging Face's libraries (${folder}). Give a file or a folder, or go online.`,
    );
  }
  const paths = entries.map((path) => path.split(sep).join('/'));
  const readme = paths.includes('README.md') ? await readFile(join(folder, 'README.md'), 'utf8') : undefined;
  const listing = { name: `hub:${reference.name}`, paths, ...(readme !== undefined && { readme }) };
  return splitFiles(listing, { split, path: reference.path }).map((path) => localFile(join(folder, path)));
};
