import type { Clock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import type { Teacher } from '../teachers/teacher.ts';
import type { RetryPolicy } from './ask.ts';
import type { CollectionPlanOptions } from './collection-plan.ts';
import type { CollectionReport } from './collection-report.ts';
import type { AcceptableFinish } from './judge.ts';
import type { Limits } from './rate-limiter.ts';
import type { Budget, Prices, Spending } from './spending.ts';

export interface CollectOptions extends CollectionPlanOptions {
  readonly teacher: Teacher;
  /** Where the answers are kept; those that are there already are not asked for again. */
  readonly folder: string;
  /** The arm's name for these answers; the strategy's name when absent. */
  readonly source?: string;
  /** Requests under way at once; the teacher's own number when absent. */
  readonly concurrency?: number;
  /** Answers that ended so are kept although they are failures by default. */
  readonly accept?: readonly AcceptableFinish[];
  /** Asks again for answers that failed. Those that nobody answered are asked for again in any case. */
  readonly retryFailed?: boolean;
  readonly retries?: Partial<RetryPolicy>;
  /** Requests and tokens a minute; the provider's own limits lower them by themselves. */
  readonly limits?: Limits;
  /** The most that this folder's answers may cost, earlier runs included. Reached: a CollectionStoppedError says what there is. */
  readonly budget?: Budget;
  /** What answers in other folders cost that share the budget. */
  readonly spentElsewhere?: Spending;
  /** What the teacher's tokens cost; wanted for a budget in dollars. */
  readonly prices?: Prices;
  /** Asks in the provider's batches, for a share of `prices`; the teacher must take them. */
  readonly batch?: BatchWays;
  readonly clock?: Clock;
  /** For the waits between tries. */
  readonly random?: Random;
  /** Raised: nothing new is asked, requests under way get `graceMs` to finish, and a CollectionStoppedError says how many answers there are. */
  readonly signal?: AbortSignal;
  /** 20 s when absent. */
  readonly graceMs?: number;
  readonly onProgress?: (progress: CollectionProgress) => void;
  readonly onWarning?: (warning: string) => void;
}

/** How a provider's batches are used. */
export interface BatchWays {
  /** How often is asked whether they have ended; every minute when absent. */
  readonly pollMs?: number;
  /** Requests in one batch at most; what the provider takes when absent. */
  readonly requestCount?: number;
  /** False: comes back when everything is handed in, without the answers. */
  readonly waits?: boolean;
}

export interface CollectionProgress {
  /** Answers there are, kept or failed, of `wantedCount`. */
  readonly doneCount: number;
  readonly wantedCount: number;
  readonly keptCount: number;
  readonly failedCount: number;
  readonly underWayCount: number;
  /** All requests wait until then (milliseconds since 1970), since the provider asked for it. */
  readonly pausedUntilMs?: number;
  /** What went wrong last, if anything did. */
  readonly lastProblem?: string;
}

/** A collection that was told to stop. What was collected is kept; the same command goes on. */
export class CollectionStoppedError extends UserError {
  override name = 'CollectionStoppedError';
  readonly report: CollectionReport;
  constructor(message: string, report: CollectionReport) {
    super(message);
    this.report = report;
  }
}

/** The arm's name for the answers of a collection. */
export const sourceOf = ({ source, strategy }: Pick<CollectOptions, 'source' | 'strategy'>): string => source ?? strategy.name;
