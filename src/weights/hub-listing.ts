import { datasetInfo, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import { type HubConnection, hubFailure, isTransient } from './hub-connection.ts';
import type { HubFile } from './hub-download.ts';
import type { HubRepository } from './hub-reference.ts';

export interface AskOptions {
  readonly sleep?: (durationMs: number) => Promise<void>;
  readonly signal?: AbortSignal;
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** The commit that a repository's revision is now. */
export const askForCommit = async (repository: HubRepository, connection: HubConnection, options: AskOptions): Promise<string> => {
  const { kind, name, revision } = repository;
  const { url, fetch } = connection;
  const about = kind === 'model' ? modelInfo<'sha'> : datasetInfo<'sha'>;
  const ask = () => about({ name, revision, additionalFields: ['sha'], hubUrl: url, fetch });
  const { sha } = await askHub(repository, connection, options, ask);
  if (!isCommit(sha)) throw new UserError(`${url} names no commit for ${name}@${revision}: it says ${JSON.stringify(sha)}.`);
  return sha;
};

/** The files of a repository; of a data set those in its folders, too. */
export const listHubFiles = async (repository: HubRepository, connection: HubConnection, options: AskOptions): Promise<HubFile[]> =>
  askHub(repository, connection, options, async () => {
    const { url, fetch } = connection;
    const { kind, name, revision } = repository;
    const files: unknown[] = [];
    const listing = { repo: { type: kind, name }, revision, recursive: kind === 'dataset', hubUrl: url, fetch } as const;
    for await (const entry of listFiles(listing)) if (entry.type === 'file') files.push(entry);
    const parsed = listingSchema.safeParse(files);
    if (parsed.success) return parsed.data;
    throw new UserError(`${url} lists the files of ${name} in a way that is not understood: ${z.prettifyError(parsed.error)}`);
  });

const listingSchema = z.array(
  z.object({
    path: z.string(),
    size: z.number(),
    oid: z.string().exactOptional(),
    lfs: z.object({ oid: z.string() }).exactOptional(),
    xetHash: z.string().exactOptional(),
  }),
);

/** A listing that was kept; throws where it is none. */
export const parseHubListing = (value: unknown): HubFile[] => listingSchema.parse(value);

/** A question to the hub, asked again when it is overloaded. When it cannot be reached at all, waiting would only delay the message. */
const askHub = async <T>(
  repository: HubRepository,
  connection: HubConnection,
  { sleep = systemClock.sleep, signal }: AskOptions,
  ask: () => Promise<T>,
): Promise<T> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof HubApiError && isTransient(error)) || attempt === 4) throw hubFailure(error, repository, connection);
      await sleep(1000 * 2 ** attempt);
    }
  }
};
