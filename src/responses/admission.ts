import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { RateLimit, TeacherRequest, Usage } from '../teachers/teacher.ts';
import type { TeacherError } from '../teachers/teacher-error.ts';
import { type PauseGate, pauseGate } from './pause-gate.ts';
import { type Limits, rateLimiter } from './rate-limiter.ts';
import { type Budget, budgetKeeper, nothingSpent, type Prices, type Spending, tokenCountOf } from './spending.ts';
import { usageMeasure } from './usage-measure.ts';

/** Decides when a request may be sent: not during a pause, not faster than the limits, not beyond the budget. */
export interface Admission {
  /** Resolves when the request may be sent; throws a BudgetReachedError, or the signal's reason. */
  enter(request: Pick<TeacherRequest, 'messages' | 'sampling'>, stop: AbortSignal): Promise<Ticket>;
  readonly gate: PauseGate;
  observe(limit: RateLimit): void;
  readonly spent: () => Spending;
}

/** For one request under way; to be settled exactly once. */
export interface Ticket {
  /** What it cost as the teacher counted it. */
  settle(usage: Usage): void;
  /** It certainly cost nothing. */
  settleUnbilled(): void;
  /** Nobody said what it cost: it counts in full. Returns what that is. */
  settleInFull(): Usage;
}

export interface AdmissionOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly patienceMs: number;
  readonly limits?: Limits;
  readonly budget?: Budget;
  readonly prices?: Prices | undefined;
  readonly spentBefore?: Spending;
}

export const admission = (options: AdmissionOptions): Admission => {
  const { clock, random, patienceMs, limits = {}, budget = {}, prices, spentBefore = nothingSpent } = options;
  const gate = pauseGate({ clock, random, patienceMs });
  const limiter = rateLimiter(limits, clock);
  const keeper = budgetKeeper(budget, prices, spentBefore);
  const measure = usageMeasure();

  return {
    gate,
    observe: limiter.observe,
    spent: keeper.spent,
    enter: async (request, stop) => {
      await gate.pass(stop);
      const full = measure.full(request);
      const assumedTokens = tokenCountOf(full);
      const reservation = await keeper.reserve(full);
      try {
        await limiter.enter(assumedTokens, stop);
        // A pause may have begun meanwhile.
        await gate.pass(stop);
        stop.throwIfAborted();
      } catch (thrown) {
        reservation.settle(free);
        throw thrown;
      }
      const settle = (usage: Usage | undefined): void => {
        reservation.settle(usage);
        limiter.correct(assumedTokens, usage === undefined ? assumedTokens : tokenCountOf(usage));
      };
      return {
        settle: (usage) => {
          measure.observe(request, usage);
          settle(usage);
        },
        settleUnbilled: () => settle(free),
        settleInFull: () => {
          settle(undefined);
          return full;
        },
      };
    },
  };
};

const free: Usage = { promptTokens: 0, completionTokens: 0 };

/** Whether a failed request may have been billed: an error that the provider reports itself is not, and one that never reached it is not. */
export const mayBeBilled = ({ status, message }: TeacherError): boolean =>
  status === undefined ? !/ECONNREFUSED|ENOTFOUND|EAI_AGAIN|certificate/i.test(message) : status < 300;
