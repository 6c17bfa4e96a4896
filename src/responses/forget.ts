import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { lockFolder } from '../base/folder-lock.ts';
import { syncFolder } from '../base/folders.ts';
import { appendJsonLines, readJsonLines } from '../base/json-lines.ts';
import { parseResponse } from './response.ts';
import { responsesFile } from './response-store.ts';

/**
 * Removes a question and every answer made for it or from it, in all sources of a folder, and leaves no copy. Returns how many lines went.
 * Students that have seen it must be trained anew: `readResponses` before this says in which sources it stood.
 */
export const forgetQuestion = async (folder: string, exampleId: string): Promise<number> => {
  const lock = await lockFolder(folder);
  const path = responsesFile(folder);
  try {
    const removed = await removeLines(path, (value) => {
      const response = parseResponse(value, path);
      return response.exampleId === exampleId || response.answerFrom === exampleId;
    });
    return removed.length;
  } finally {
    await lock.release();
  }
};

/** Removes lines of a JSON-lines file, whole or not at all, and leaves no copy. Returns what they held. The folder must be nobody else's meanwhile. */
export const removeLines = async (path: string, isConcerned: (value: unknown) => boolean): Promise<unknown[]> => {
  const draft = `${path}.draft`;
  await rm(draft, { force: true });
  const lines = await appendJsonLines(draft);
  const removed: unknown[] = [];
  let pending: Promise<void>[] = [];
  try {
    for await (const { value } of readJsonLines(path)) {
      if (isConcerned(value)) removed.push(value);
      else pending.push(lines.append(value));
      if (pending.length === 1000) {
        await Promise.all(pending);
        pending = [];
      }
    }
    await Promise.all(pending);
  } catch (thrown) {
    await lines.close();
    await rm(draft, { force: true });
    throw thrown;
  }
  await lines.close();
  if (removed.length === 0) await rm(draft);
  else {
    await rename(draft, path);
    await syncFolder(dirname(path));
  }
  return removed;
};
