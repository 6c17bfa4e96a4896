import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import { TeacherError } from '../teachers/teacher-error.ts';

/** Holds all requests back while a provider asks everybody to slow down. */
export interface PauseGate {
  /** Resolves when requests may be sent. */
  pass(signal: AbortSignal): Promise<void>;
  /** Closes the gate for as long as the provider asked, or for twice as long as the last time. Throws when it would be for too long. */
  close(because: TeacherError, retryAfterMs: number | undefined): void;
  /** An answer came: the provider is content again. */
  relax(): void;
  /** Until when it is closed, in milliseconds since 1970. */
  readonly closedUntilMs: () => number | undefined;
  /** Time for which it was closed so far. */
  readonly closedForMs: () => number;
}

export interface PauseGateOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** A provider that asks for more than this at once, or without any answer in between, has no answers for this run. */
  readonly patienceMs: number;
}

/** Without a Retry-After: two seconds, then twice as long each time, up to a minute. */
const firstPauseMs = 2000;
const longestPauseMs = 60_000;

/** Waiters do not all run at once when the gate opens: they are spread over so much of the pause. */
const spread = 0.1;

export const pauseGate = ({ clock, random, patienceMs }: PauseGateOptions): PauseGate => {
  let closedUntilMs = 0;
  let closedForMs = 0;
  let closedWithoutAnswerMs = 0;
  let lastPauseMs = 0;
  let pauseCount = 0;
  return {
    pass: async (signal) => {
      for (let leftMs = closedUntilMs - clock.now(); leftMs > 0; leftMs = closedUntilMs - clock.now())
        await clock.sleep(leftMs + random.uniform() * spread * lastPauseMs, signal);
    },
    close: (because, retryAfterMs) => {
      const now = clock.now();
      const pauseMs = retryAfterMs ?? Math.min(longestPauseMs, firstPauseMs * 2 ** pauseCount);
      const until = now + pauseMs;
      // Requests that were under way together are refused together: one pause, not one for each.
      if (until <= closedUntilMs || (retryAfterMs === undefined && now < closedUntilMs)) return;
      const addedMs = until - Math.max(now, closedUntilMs);
      closedForMs += addedMs;
      closedWithoutAnswerMs += addedMs;
      closedUntilMs = until;
      lastPauseMs = pauseMs;
      pauseCount++;
      if (closedWithoutAnswerMs > patienceMs)
        throw new TeacherError(
          `${because.message} It asks to wait ${Math.ceil(closedWithoutAnswerMs / 1000)} s, and the longest wait is ${patienceMs / 1000} s. Run the same command again later.`,
          { retry: 'never', scope: 'all' },
        );
    },
    relax: () => {
      closedWithoutAnswerMs = 0;
      pauseCount = 0;
    },
    closedUntilMs: () => (closedUntilMs > clock.now() ? closedUntilMs : undefined),
    closedForMs: () => closedForMs,
  };
};
