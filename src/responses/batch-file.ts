import { dirname, extname } from 'node:path';
import { makeFolder, writeFileAtomic } from '../base/folders.ts';
import { readJsonLines } from '../base/json-lines.ts';
import type { BatchFormat, BatchLimits, BatchResult } from '../teachers/batches.ts';
import { type JoinPlace, joinResults } from './batch-join.ts';
import type { CollectOptions } from './collect-options.ts';
import { type PlannedAnswer, planCollection } from './collection-plan.ts';
import { isOpen, openResponseStore, type ResponseStore } from './response-store.ts';

/** What a batch file is made from: a collection that nobody is asked for. */
export type BatchOptions = Omit<
  CollectOptions,
  'teacher' | 'concurrency' | 'retries' | 'limits' | 'budget' | 'signal' | 'graceMs' | 'onProgress' | 'batch'
> & {
  /** `openAiCompatibleProfile(…).identity`: answers get the keys that asking the same server would give them. */
  readonly teacher: Pick<CollectOptions['teacher'], 'identity'>;
};

export interface WrittenBatch {
  readonly files: readonly string[];
  readonly requestCount: number;
}

/**
 * Writes the requests for all questions of these collections that have no answer as lines of a batch, `NAME.jsonl`, or `NAME-1.jsonl`,
 * `NAME-2.jsonl` … where one file would be over the limits. Nothing is sent.
 */
export const writeBatchFiles = async (
  file: string,
  format: BatchFormat,
  collections: readonly BatchOptions[],
  limits: BatchLimits = format.limits,
): Promise<WrittenBatch> => {
  const lines: string[] = [];
  for (const options of collections)
    for (const item of await openRequests(options))
      lines.push(format.requestLine(item.requestKey, { messages: item.messages(), sampling: item.sampling }));
  const parts = splitLines(lines, limits);
  const extension = extname(file);
  const stem = file.slice(0, file.length - extension.length);
  await makeFolder(dirname(file));
  const files: string[] = [];
  for (const [index, part] of parts.entries()) {
    const path = parts.length === 1 ? file : `${stem}-${index + 1}${extension}`;
    await writeFileAtomic(path, `${part.join('\n')}\n`);
    files.push(path);
  }
  return { files, requestCount: lines.length };
};

/** What became of the lines of a batch's output. */
export interface ReadBatch {
  /** Answers that are in the stores now and were not before. */
  readonly newCount: number;
  /** Answers that were there already. */
  readonly knownCount: number;
  /** Requests that the batch did not answer, by what it said; they stay open and go into the next file. */
  readonly failures: Readonly<Record<string, number>>;
  /** Lines of requests that these collections do not have: of another config, or of other questions. */
  readonly strangeCount: number;
  /** Requests that are still without an answer. */
  readonly openCount: number;
}

/** Reads a batch's output (or error) file into the collections' folders, joined by id, in whatever order the lines come. */
export const readBatchFile = async (file: string, format: BatchFormat, collections: readonly BatchOptions[]): Promise<ReadBatch> => {
  const places = new Map<string, Omit<JoinPlace, 'isOpen'> & { readonly options: BatchOptions }>();
  const stores: ResponseStore[] = [];
  let brokenCount = 0;
  async function* results(): AsyncGenerator<BatchResult> {
    for await (const { value } of readJsonLines(file)) {
      const result = format.parseResult(value);
      if (result === undefined) brokenCount++;
      else yield result;
    }
  }
  const isStillOpen = (id: string, { store, options }: Omit<JoinPlace, 'isOpen'> & { readonly options: BatchOptions }): boolean =>
    isOpen(store.answers.get(id), options.retryFailed);
  try {
    for (const options of collections) {
      const store = await openResponseStore(options.folder);
      stores.push(store);
      for (const item of planCollection(options)) places.set(item.requestKey, { item, options, store, tryCount: 1 });
    }
    const joined = await joinResults(results(), (id) => {
      const place = places.get(id);
      return place && { ...place, isOpen: isStillOpen(id, place) };
    });
    const { newCount, knownCount, problems } = joined;
    const failures: Record<string, number> = {};
    for (const { message } of problems.values()) failures[message] = (failures[message] ?? 0) + 1;
    const openCount = [...places].filter(([id, place]) => isStillOpen(id, place)).length;
    return { newCount, knownCount, failures, strangeCount: joined.strangeCount + brokenCount, openCount };
  } finally {
    for (const store of stores) await store.close();
  }
};

/** What a batch would ask: questions without an answer. */
const openRequests = async (options: BatchOptions): Promise<PlannedAnswer[]> => {
  const store = await openResponseStore(options.folder);
  try {
    return planCollection(options).filter(({ requestKey }) => isOpen(store.answers.get(requestKey), options.retryFailed));
  } finally {
    await store.close();
  }
};

/** As few parts as the limits allow, lines in their order. */
const splitLines = (lines: readonly string[], { requestCount, sizeBytes }: BatchLimits): string[][] => {
  const parts: string[][] = [];
  let partBytes = Number.POSITIVE_INFINITY;
  for (const line of lines) {
    const lineBytes = Buffer.byteLength(line) + 1;
    const part = parts.at(-1);
    if (part === undefined || part.length >= requestCount || partBytes + lineBytes > sizeBytes) {
      parts.push([line]);
      partBytes = lineBytes;
    } else {
      part.push(line);
      partBytes += lineBytes;
    }
  }
  return parts;
};
