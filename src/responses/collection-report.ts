import type { Usage } from '../teachers/teacher.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import type { Response } from './response.ts';
import type { StoredAnswer } from './response-store.ts';
import { addUsage } from './spending.ts';

/** How a collection stands. */
export interface CollectionReport {
  readonly source: string;
  readonly folder: string;
  /** Request keys of all answers that were wanted, in the order of the examples: for `readResponses`. */
  readonly keys: readonly string[];
  readonly wantedCount: number;
  /** Answers there are, kept or failed; those that nobody answered are not. */
  readonly doneCount: number;
  readonly keptCount: number;
  readonly failedCount: number;
  /** Failed ones by reason. */
  readonly failures: Readonly<Record<string, number>>;
  /** Answers that came in this call; the others were there. */
  readonly newCount: number;
  /** Of the new ones, those that are right by the strict and by the flexible rule. */
  readonly newStrictCount: number;
  readonly newFlexibleCount: number;
  /** Requests sent in this call, tries that failed included. */
  readonly requestCount: number;
  /** Tokens of this call as the teacher counted them, and in full where it did not; absent where nothing was asked. */
  readonly usage?: Usage;
  readonly durationMs: number;
  /** Requests that the provider works on in batches; absent where there are none. */
  readonly underWayCount?: number;
}

/** Counts while answers come in. */
export interface CollectionTally {
  countRequest(): void;
  countAnswer(response: Response): void;
  /** Requests in batches that have not ended. */
  setUnderWay(count: number): void;
  readonly underWayCount: () => number;
  readonly counts: () => Pick<CollectionReport, 'wantedCount' | 'doneCount' | 'keptCount' | 'failedCount'>;
  report(about: Pick<CollectionReport, 'source' | 'folder' | 'durationMs'>): CollectionReport;
}

/** Starts from the answers that are there; those that will be asked for again do not count yet. */
export const collectionTally = (
  planned: readonly PlannedAnswer[],
  settled: (requestKey: string) => StoredAnswer | undefined,
): CollectionTally => {
  /** `kept`, or the reason: not the answer itself, whose text would stay in memory with it. */
  const verdicts = new Map<string, string>();
  const unanswered = new Set<string>();
  let keptCount = 0;
  let newCount = 0;
  let newStrictCount = 0;
  let newFlexibleCount = 0;
  let requestCount = 0;
  let usage: Usage | undefined;
  let underWayCount = 0;
  const set = (key: string, answer: Pick<StoredAnswer, 'status' | 'reason'>): void => {
    keptCount += Number(answer.status === 'kept') - Number(verdicts.get(key) === 'kept');
    verdicts.set(key, answer.status === 'kept' ? 'kept' : (answer.reason ?? answer.status));
    if (answer.reason === 'unanswered') unanswered.add(key);
    else unanswered.delete(key);
  };
  for (const { requestKey } of planned) {
    const answer = settled(requestKey);
    if (answer !== undefined) set(requestKey, answer);
  }
  const counts = () => ({
    wantedCount: planned.length,
    doneCount: verdicts.size - unanswered.size,
    keptCount,
    failedCount: verdicts.size - keptCount,
  });
  return {
    countRequest: () => {
      requestCount++;
    },
    countAnswer: (response) => {
      set(response.requestKey, response);
      if (response.reason !== 'unanswered') newCount++;
      newStrictCount += Number(response.strict);
      newFlexibleCount += Number(response.flexible);
      usage = addUsage(usage, addUsage(response.usage, addUsage(response.wastedUsage, response.assumedUsage)));
    },
    setUnderWay: (count) => {
      underWayCount = count;
    },
    underWayCount: () => underWayCount,
    counts,
    report: (about) => ({
      ...about,
      ...counts(),
      keys: planned.map(({ requestKey }) => requestKey),
      failures: countBy([...verdicts.values()].filter((verdict) => verdict !== 'kept')),
      newCount,
      newStrictCount,
      newFlexibleCount,
      requestCount,
      ...(usage === undefined ? {} : { usage }),
      ...(underWayCount === 0 ? {} : { underWayCount }),
    }),
  };
};

/** How often each name comes. */
export const countBy = (names: readonly string[]): Record<string, number> => {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  // Also a name that objects have already, such as `constructor`, is a name.
  return Object.fromEntries(counts);
};
