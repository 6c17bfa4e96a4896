import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Teacher, TeacherAnswer, TeacherRequest, Usage } from '../teachers/teacher.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import { type Admission, mayBeBilled } from './admission.ts';
import { addUsage } from './spending.ts';

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
  readonly admission: Admission;
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

/** What the tries for one question took. */
export interface Tries {
  readonly tryCount: number;
  /** Of the last one. */
  readonly latencyMs: number;
  /** Of tries that were billed and gave nothing. */
  readonly wastedUsage: Usage | undefined;
  /** Of tries of which nobody knows what they cost, counted in full. */
  readonly assumedUsage: Usage | undefined;
}

type Outcome =
  | { readonly outcome: 'answered'; readonly answer: TeacherAnswer }
  | { readonly outcome: 'refused' | 'unanswered'; readonly problem: TeacherError }
  /** Something that concerns all questions alike, or the stop signal's reason. */
  | { readonly outcome: 'interrupted'; readonly thrown: unknown };

/** How asking one question ended. */
export type Asked = Tries & Outcome;

/** Asks until there is an answer or no hope of one. Never throws: what the tries cost must be written down however they ended. */
export const ask = async (request: Omit<TeacherRequest, 'signal'>, surroundings: AskSurroundings): Promise<Asked> => {
  let tries: Tries = { tryCount: 0, latencyMs: 0, wastedUsage: undefined, assumedUsage: undefined };
  const onTry = (tried: Tries): void => {
    tries = tried;
  };
  try {
    const outcome = await tryRepeatedly(request, surroundings, () => tries, onTry);
    return { ...outcome, ...tries };
  } catch (thrown) {
    return { outcome: 'interrupted', thrown, ...tries };
  }
};

const tryRepeatedly = async (
  request: Omit<TeacherRequest, 'signal'>,
  surroundings: AskSurroundings,
  tries: () => Tries,
  onTry: (tries: Tries) => void,
): Promise<Outcome> => {
  const { admission, policy, clock, random, stop, hasAnswered, onProblem } = surroundings;
  for (let failureCount = 0; ; ) {
    const result = await tryOnce(request, surroundings, tries(), onTry);
    if (!(result instanceof TeacherError)) return { outcome: 'answered', answer: result };
    onProblem(result);
    const { advice } = result;
    if (advice.retry === 'never') {
      if (advice.scope === 'question') return { outcome: 'refused', problem: result };
      throw result;
    }
    if (advice.retry === 'pause') {
      admission.gate.close(result, advice.retryAfterMs);
      continue;
    }
    failureCount++;
    if (failureCount >= policy.maximumTries) return { outcome: 'unanswered', problem: result };
    if (failureCount >= policy.maximumFirstTries && !hasAnswered()) throw result;
    await clock.sleep(waitBefore(failureCount, advice.retryAfterMs, policy, random), stop);
  }
};

/** One request, with what it cost settled and handed to `onTry` whatever became of it. Returns the teacher's error, throws any other. */
const tryOnce = async (
  request: Omit<TeacherRequest, 'signal'>,
  { teacher, admission, clock, stop, hangUp, onSent }: AskSurroundings,
  before: Tries,
  onTry: (tries: Tries) => void,
): Promise<TeacherAnswer | TeacherError> => {
  const ticket = await admission.enter(request, stop);
  const startMs = clock.now();
  onSent();
  const tried = (cost: { readonly wasted?: Usage; readonly assumed?: Usage }): void =>
    onTry({
      tryCount: before.tryCount + 1,
      latencyMs: clock.now() - startMs,
      wastedUsage: addUsage(before.wastedUsage, cost.wasted),
      assumedUsage: addUsage(before.assumedUsage, cost.assumed),
    });
  try {
    const answer = await teacher.generate({ ...request, signal: hangUp });
    if (answer.rateLimit !== undefined) admission.observe(answer.rateLimit);
    if (answer.usage !== undefined) ticket.settle(answer.usage);
    else if (teacher.isFree === true) ticket.settleUnbilled();
    tried(answer.usage === undefined && teacher.isFree !== true ? { assumed: ticket.settleInFull() } : {});
    return answer;
  } catch (thrown) {
    if (!(thrown instanceof TeacherError)) {
      tried({ assumed: ticket.settleInFull() }); // Hung up on, or a bug: it may cost.
      throw thrown;
    }
    if (thrown.usage !== undefined) {
      ticket.settle(thrown.usage);
      tried({ wasted: thrown.usage });
    } else if (mayBeBilled(thrown)) tried({ assumed: ticket.settleInFull() });
    else {
      ticket.settleUnbilled();
      tried({});
    }
    return thrown;
  }
};

/** Doubling, up to the longest wait, and somewhere in the upper half of it: clients that failed together do not come back together. */
export const waitBefore = (failureCount: number, retryAfterMs: number | undefined, policy: RetryPolicy, random: Random): number => {
  const fullMs = Math.min(policy.longestWaitMs, policy.firstWaitMs * 2 ** (failureCount - 1));
  return Math.max(Math.min(retryAfterMs ?? 0, policy.patienceMs), fullMs * (0.5 + 0.5 * random.uniform()));
};
