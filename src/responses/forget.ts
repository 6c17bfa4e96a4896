import { rename, rm } from 'node:fs/promises';
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
  const draft = `${path}.draft`;
  try {
    await rm(draft, { force: true });
    const lines = await appendJsonLines(draft);
    let removedCount = 0;
    let pending: Promise<void>[] = [];
    try {
      for await (const { line, value } of readJsonLines(path)) {
        const response = parseResponse(value, `${path}:${line}`);
        if (response.exampleId === exampleId || response.answerFrom === exampleId) removedCount++;
        else pending.push(lines.append(value));
        if (pending.length === 1000) {
          await Promise.all(pending);
          pending = [];
        }
      }
      await Promise.all(pending);
    } finally {
      await lines.close();
    }
    if (removedCount === 0) await rm(draft);
    else {
      await rename(draft, path);
      await syncFolder(folder);
    }
    return removedCount;
  } finally {
    await lock.release();
  }
};
