import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Teacher, TeacherAnswer, TeacherRequest, Usage } from '../teachers/teacher.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import type { PauseGate } from './pause-gate.ts';

export interface RetryPolicy {
  /** Requests for one question before it counts as unanswered; pauses that a provider asks for (429) do not count. */
  readonly maximumTries: number;
  /** Before anything was answered: a wrong address should be told in seconds, not in minutes. */
  readonly maximumFirstTries: number;
  /** The wait before the second try; it doubles from try to try. */
  readonly firstWaitMs: number;
  readonly longestWaitMs: number;
  /** Questions left unanswered one after the other before the teacher counts as gone. */
  readonly maximumUnanswered: number;
  /** The longest time that a provider may ask all requests to wait. */
  readonly patienceMs: number;
}

/** About two minutes of trying for one question. */
export const defaultRetryPolicy: RetryPolicy = {
  maximumTries: 8,
  maximumFirstTries: 4,
  firstWaitMs: 1000,
  longestWaitMs: 60_000,
  maximumUnanswered: 5,
  patienceMs: 3_600_000,
};

/** What the requests of one collection share. */
export interface AskSurroundings {
  readonly teacher: Teacher;
  readonly gate: PauseGate;
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  readonly random: Random;
  /** Raised: nothing new is sent, and nobody waits any longer. */
  readonly stop: AbortSignal;
  /** Raised: requests under way are given up. */
  readonly hangUp: AbortSignal;
  readonly hasAnswered: () => boolean;
  readonly onSent: () => void;
  readonly onProblem: (problem: TeacherError) => void;
}

/** How asking one question ended. */
export type Asked = {
  readonly tryCount: number;
  readonly latencyMs: number;
  /** Of tries that were billed and gave nothing. */
  readonly wastedUsage: Usage | undefined;
} & (
  | { readonly outcome: 'answered'; readonly answer: TeacherAnswer }
  | { readonly outcome: 'refused' | 'unanswered'; readonly problem: TeacherError }
);

/** Asks until there is an answer or no hope of one. Throws what concerns all questions alike, and the stop signal's reason. */
export const ask = async (request: Omit<TeacherRequest, 'signal'>, surroundings: AskSurroundings): Promise<Asked> => {
  const { teacher, gate, policy, clock, random, stop, hangUp, hasAnswered, onSent, onProblem } = surroundings;
  let wastedUsage: Usage | undefined;
  let tryCount = 0;
  for (let failureCount = 0; ; ) {
    await gate.pass(stop);
    stop.throwIfAborted();
    const startMs = clock.now();
    tryCount++;
    onSent();
    try {
      const answer = await teacher.generate({ ...request, signal: hangUp });
      return { outcome: 'answered', answer, tryCount, latencyMs: clock.now() - startMs, wastedUsage };
    } catch (thrown) {
      if (!(thrown instanceof TeacherError)) throw thrown;
      onProblem(thrown);
      wastedUsage = addUsage(wastedUsage, thrown.usage);
      const failed = { problem: thrown, tryCount, latencyMs: clock.now() - startMs, wastedUsage };
      const { advice } = thrown;
      if (advice.retry === 'never') {
        if (advice.scope === 'question') return { outcome: 'refused', ...failed };
        throw thrown;
      }
      if (advice.retry === 'pause') {
        gate.close(thrown, advice.retryAfterMs);
        continue;
      }
      failureCount++;
      if (failureCount >= policy.maximumTries) return { outcome: 'unanswered', ...failed };
      if (failureCount >= policy.maximumFirstTries && !hasAnswered()) throw thrown;
      await clock.sleep(waitBefore(failureCount, advice.retryAfterMs, policy, random), stop);
    }
  }
};

/** Doubling, up to the longest wait, and somewhere in the upper half of it: clients that failed together do not come back together. */
const waitBefore = (failureCount: number, retryAfterMs: number | undefined, policy: RetryPolicy, random: Random): number => {
  const fullMs = Math.min(policy.longestWaitMs, policy.firstWaitMs * 2 ** (failureCount - 1));
  return Math.max(Math.min(retryAfterMs ?? 0, policy.patienceMs), fullMs * (0.5 + 0.5 * random.uniform()));
};

/** The sum of two usages; an absent one adds nothing. */
export const addUsage = (a: Usage | undefined, b: Usage | undefined): Usage | undefined => {
  if (a === undefined || b === undefined) return a ?? b;
  const optional = (name: 'cachedPromptTokens' | 'reasoningTokens') =>
    a[name] === undefined && b[name] === undefined ? {} : { [name]: (a[name] ?? 0) + (b[name] ?? 0) };
  return {
    promptTokens: a.promptTokens + b.promptTokens,
    completionTokens: a.completionTokens + b.completionTokens,
    ...optional('cachedPromptTokens'),
    ...optional('reasoningTokens'),
  };
};
