import { downloadFile } from '@huggingface/hub';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import type { ByteFile } from './byte-file.ts';
import { type HubConnection, hubFailure, isTransient } from './hub-connection.ts';
import type { HubFile } from './hub-download.ts';
import type { AskOptions } from './hub-listing.ts';
import type { HubRepository } from './hub-reference.ts';

const attempts = 5;

/** A file of a repository, read by range: nothing is fetched but what is asked for, and nothing is kept. The revision should be a commit. */
export const openHubFile = async (
  file: HubFile,
  repository: HubRepository,
  connection: HubConnection,
  { sleep = systemClock.sleep, signal }: AskOptions,
): Promise<ByteFile> => {
  const { kind, name, revision } = repository;
  const path = `hub:${name}/${file.path}`;
  const locate = async (): Promise<Blob> => {
    const { url, fetch } = connection;
    const blob = await downloadFile({ repo: { type: kind, name }, path: file.path, revision, hubUrl: url, fetch, xet: false });
    if (blob === null) throw new UserError(`${path} is listed on ${url}, but not there. Try again later.`);
    return blob;
  };
  let located: Blob | undefined;
  return {
    path,
    sizeBytes: file.size,
    readInto: async (target, offset, what) => {
      if (offset + target.length > file.size) {
        throw new UserError(`${path} ends inside ${what}: it has ${file.size} bytes, ${target.length} were to be read at ${offset}.`);
      }
      if (target.length === 0) return;
      for (let attempt = 1; ; attempt++) {
        const isNew = located === undefined;
        try {
          located ??= await locate();
          const bytes = new Uint8Array(await located.slice(offset, offset + target.length).arrayBuffer());
          if (bytes.length === target.length) return target.set(bytes);
          throw new Error(`${bytes.length} bytes came where ${target.length} were asked for`);
        } catch (error) {
          signal?.throwIfAborted();
          // The address that a large file is redirected to is good for an hour or less: a refusal may mean no more than that.
          located = undefined;
          if ((isNew && !isTransient(error)) || attempt === attempts) throw hubFailure(error, repository, connection);
          await sleep(1000 * 2 ** (attempt - 1));
        }
      }
    },
    close: async () => undefined,
  };
};
