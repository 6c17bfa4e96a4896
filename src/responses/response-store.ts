import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFolder } from '../base/folder-lock.ts';
import { hasCode } from '../base/folders.ts';
import { appendJsonLines, type HandedLine, readJsonLines, type TornLine } from '../base/json-lines.ts';
import { type AnswerHead, readAnswerHeads, withTextsLast } from './answer-head.ts';
import { parseResponse, type Response } from './response.ts';
import { addSpending, nothingSpent, type Spending, tokenCountOf, wholeUsage } from './spending.ts';

/** The store's file in its folder. */
export const responsesFile = (folder: string): string => join(folder, 'responses.jsonl');

/** What a collector must know of an answer that it has. */
export type StoredAnswer = Pick<Response, 'status' | 'reason' | 'finishReason' | 'source'> & { readonly isEmpty: boolean };

/** A folder of answers, open for more. Nobody else writes to it meanwhile. */
export interface ResponseStore {
  /** By request key; of several with one key the last. */
  readonly answers: ReadonlyMap<string, StoredAnswer>;
  /** What all answers of the folder cost, those that were replaced included. */
  readonly spent: () => Spending;
  /** Resolves when the answer is on the disk. */
  append(response: Response): Promise<void>;
  /** Resolves when the answer outlives this process. Whoever calls it awaits `onDisk` too, which may reject. */
  hand(response: Response): Promise<HandedLine>;
  close(): Promise<void>;
}

export interface OpenStoreOptions {
  readonly onTorn?: (torn: TornLine) => void;
  /** Told of every answer that is there, in the order of the lines, and then of every one that comes, when it is on the disk. */
  readonly onAnswer?: (head: AnswerHead) => void;
}

/** Opens a folder of answers, creating it if need be. Throws a FolderInUseError that names the process which has it open. */
export const openResponseStore = async (folder: string, options: OpenStoreOptions = {}): Promise<ResponseStore> => {
  const lock = await lockFolder(folder);
  try {
    const path = responsesFile(folder);
    const lines = await appendJsonLines(path, options);
    const answers = new Map<string, StoredAnswer>();
    const shared = new Map<string, StoredAnswer>();
    let spent = nothingSpent;
    const add = (head: AnswerHead): void => {
      answers.set(head.requestKey, storedAnswer(head, shared));
      spent = addSpending(spent, spendingOf(head));
      options.onAnswer?.(head);
    };
    try {
      for await (const head of readAnswerHeads(path)) add(head);
    } catch (thrown) {
      await lines.close();
      throw thrown;
    }
    const hand = async (response: Response): Promise<HandedLine> => {
      const { onDisk } = await lines.hand(withTextsLast(response));
      return { onDisk: onDisk.then(() => add({ ...response, isEmpty: response.text.trim() === '' })) };
    };
    return {
      answers,
      spent: () => spent,
      append: async (response) => (await hand(response)).onDisk,
      hand,
      close: async () => {
        await lines.close();
        await lock.release();
      },
    };
  } catch (thrown) {
    await lock.release();
    throw thrown;
  }
};

/** Whether a question is still to be asked: it was never answered, or its answer failed and is wanted anew. */
export const isOpen = (answer: StoredAnswer | undefined, retryFailed = false): boolean =>
  answer === undefined || (answer.status === 'failed' && (retryFailed || answer.reason === 'unanswered'));

/** What a line of the store cost. */
export const spendingOf = ({
  usage,
  wastedUsage,
  assumedUsage,
  costUsd = 0,
  tryCount,
  isJudgedAgain = false,
}: Omit<AnswerHead, 'isEmpty'>): Spending => {
  if (isJudgedAgain) return nothingSpent;
  return { usd: costUsd, tokens: tokenCountOf(wholeUsage({ usage, wastedUsage, assumedUsage })), requests: tryCount };
};

/** What is kept of an answer; alike ones are one object, since there may be a hundred thousand of a few kinds. */
const storedAnswer = ({ status, reason, finishReason, source, isEmpty }: AnswerHead, shared: Map<string, StoredAnswer>): StoredAnswer => {
  const name = JSON.stringify([status, reason, finishReason, source, isEmpty]);
  const known = shared.get(name);
  if (known !== undefined) return known;
  const answer = { status, finishReason, source, ...(reason === undefined ? {} : { reason }), isEmpty };
  shared.set(name, answer);
  return answer;
};

export interface ReadResponsesOptions {
  /** The answers to read, in the order to give them: `keys` of a CollectionReport. A folder may hold answers of other teachers and settings too. */
  readonly keys?: readonly string[];
  /** The only source to read; absent: all. */
  readonly source?: string;
  /** Which statuses to read; `kept` alone when absent, since failed answers are never learnt from. */
  readonly statuses?: readonly Response['status'][];
}

/**
 * The answers of a folder, of several with one key the last. The order never depends on when each arrived: that of `keys`, or by source,
 * question (numbers in ids as numbers, so 2 comes before 10) and sample. No answers where there is no folder.
 */
export const readResponses = async (folder: string, options: ReadResponsesOptions = {}): Promise<Response[]> => {
  const path = responsesFile(folder);
  if (!(await isFile(path))) return [];
  const { keys, source, statuses = ['kept'] } = options;
  const wanted = keys === undefined ? undefined : new Set(keys);
  const byKey = new Map<string, Response>();
  for await (const { line, value } of readJsonLines(path)) {
    const response = parseResponse(value, `${path}:${line}`);
    if (wanted?.has(response.requestKey) ?? true) byKey.set(response.requestKey, response);
  }
  const ordered = keys?.flatMap((key) => byKey.get(key) ?? []) ?? [...byKey.values()].sort(byPlace);
  return ordered.filter((response) => statuses.includes(response.status) && (source === undefined || response.source === source));
};

/** What the answers of a folder cost; nothing where there is no folder. */
export const readSpending = async (folder: string): Promise<Spending> => {
  const path = responsesFile(folder);
  if (!(await isFile(path))) return nothingSpent;
  let spent = nothingSpent;
  for await (const head of readAnswerHeads(path)) spent = addSpending(spent, spendingOf(head));
  return spent;
};

/** Adds answers that were not asked for one by one (gold, shuffled) to a folder. Those that are there already are left as they are. */
export const storeResponses = async (folder: string, responses: readonly Response[]): Promise<void> => {
  const store = await openResponseStore(folder);
  try {
    await Promise.all(responses.filter(({ requestKey }) => !store.answers.has(requestKey)).map((response) => store.append(response)));
  } finally {
    await store.close();
  }
};

const natural = new Intl.Collator('en', { numeric: true });

const byPlace = (a: Response, b: Response): number =>
  natural.compare(a.source, b.source) ||
  natural.compare(a.exampleId, b.exampleId) ||
  a.sampleIndex - b.sampleIndex ||
  (a.requestKey < b.requestKey ? -1 : 1);

const isFile = async (path: string): Promise<boolean> => {
  try {
    return (await stat(path)).isFile();
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT', 'ENOTDIR')) return false;
    throw thrown;
  }
};
