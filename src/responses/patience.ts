import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import { type RetryPolicy, waitBefore } from './ask.ts';
import { pauseGate } from './pause-gate.ts';

/** Calls a provider in turns, one call after the other, and says when to come back with those that failed. */
export interface Patience {
  startTurn(): void;
  /**
   * The call's result, or undefined where it failed and may be tried again in the next turn. Throws what cannot be helped, after
   * `onRefused`, and what failed too often in a row under its name.
   */
  attempt<T>(name: string, call: () => Promise<T>, onRefused?: () => Promise<void>): Promise<T | undefined>;
  /** How long to wait before the next turn, where something failed in this one. */
  readonly waitMs: () => number | undefined;
  note(problem: TeacherError): void;
  readonly lastProblem: () => string | undefined;
}

export interface PatienceOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly policy: RetryPolicy;
  readonly stop: AbortSignal;
}

export const patienceWith = ({ clock, random, policy, stop }: PatienceOptions): Patience => {
  const gate = pauseGate({ clock, random, patienceMs: policy.patienceMs });
  const failureCounts = new Map<string, number>();
  let hasSucceeded = false;
  let waitMs: number | undefined;
  let lastProblem: string | undefined;
  return {
    startTurn: () => {
      waitMs = undefined;
    },
    attempt: async (name, call, onRefused) => {
      await gate.pass(stop);
      stop.throwIfAborted();
      try {
        const result = await call();
        gate.relax();
        hasSucceeded = true;
        failureCounts.delete(name);
        return result;
      } catch (thrown) {
        if (!(thrown instanceof TeacherError)) throw thrown;
        lastProblem = thrown.message;
        const { advice } = thrown;
        if (advice.retry === 'never') {
          await onRefused?.();
          throw thrown;
        }
        if (advice.retry === 'pause') {
          gate.close(thrown, advice.retryAfterMs);
          waitMs ??= 0; // The gate waits.
          return undefined;
        }
        const failureCount = 1 + (failureCounts.get(name) ?? 0);
        failureCounts.set(name, failureCount);
        if (failureCount >= (hasSucceeded ? policy.maximumTries : policy.maximumFirstTries)) throw thrown;
        waitMs = Math.max(waitMs ?? 0, waitBefore(failureCount, advice.retryAfterMs, policy, random));
        return undefined;
      }
    },
    waitMs: () => waitMs,
    note: ({ message }) => {
      lastProblem = message;
    },
    lastProblem: () => lastProblem,
  };
};
