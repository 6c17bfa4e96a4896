import { type Clock, systemClock } from '../base/clock.ts';
import { groupsOf } from '../base/groups.ts';
import type { BatchResult } from '../teachers/batches.ts';
import type { Usage } from '../teachers/teacher.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import type { Asked } from './ask.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import type { Response } from './response.ts';
import { type RecordedOptions, responseOf } from './response-of.ts';
import type { ResponseStore } from './response-store.ts';

/** Where the answer to a request of a batch belongs. */
export interface JoinPlace {
  readonly item: PlannedAnswer;
  readonly options: RecordedOptions & { readonly clock?: Clock };
  readonly store: ResponseStore;
  /** False: it has an answer already. */
  readonly isOpen: boolean;
  readonly tryCount: number;
  /** What counts where the provider does not say what the answer took; absent: nothing. */
  readonly fullUsage?: () => Usage;
}

export interface JoinedResults {
  readonly newCount: number;
  /** Answers that were there already. */
  readonly knownCount: number;
  /** Requests that nobody here has asked. */
  readonly strangeCount: number;
  /** By id, what the provider said of requests that it did not answer. */
  readonly problems: ReadonlyMap<string, TeacherError>;
}

/** Answers that are written and synced together. */
const groupSize = 512;

/** Puts a batch's results where they belong, by id, in whatever order they come; each new answer is on the disk before `onAnswer` hears of it. */
export const joinResults = async (
  results: AsyncIterable<BatchResult>,
  placeOf: (id: string) => JoinPlace | undefined,
  onAnswer: (response: Response) => void = () => undefined,
): Promise<JoinedResults> => {
  const problems = new Map<string, TeacherError>();
  const joined = new Set<string>();
  let newCount = 0;
  let knownCount = 0;
  let strangeCount = 0;
  for await (const group of groupsOf(results, groupSize)) {
    const appended = group.flatMap(({ id, outcome }) => {
      const place = placeOf(id);
      if (place === undefined) strangeCount++;
      else if (!place.isOpen || joined.has(id)) knownCount++;
      else if (outcome instanceof TeacherError && !isRefusal(outcome)) problems.set(id, outcome);
      else {
        joined.add(id);
        return [appendResult(place, outcome)];
      }
      return [];
    });
    for (const response of await Promise.all(appended)) {
      newCount++;
      onAnswer(response);
    }
  }
  return { newCount, knownCount, strangeCount, problems };
};

/** Of this question alone: its answer is that there is none. */
const isRefusal = ({ advice }: TeacherError): boolean => advice.retry === 'never' && advice.scope === 'question';

const appendResult = async (
  { item, options, store, tryCount, fullUsage }: JoinPlace,
  outcome: BatchResult['outcome'],
): Promise<Response> => {
  const isAnswer = !(outcome instanceof TeacherError);
  const assumedUsage = isAnswer && outcome.usage === undefined ? fullUsage?.() : undefined;
  const tries = { tryCount, latencyMs: 0, wastedUsage: undefined, assumedUsage };
  const asked: Asked = isAnswer ? { outcome: 'answered', answer: outcome, ...tries } : { outcome: 'refused', problem: outcome, ...tries };
  const response = responseOf(item, item.messages(), asked, options, options.clock ?? systemClock);
  await store.append(response);
  return response;
};
