import { type Clock, systemClock } from '../base/clock.ts';
import { randomFrom } from '../base/random.ts';
import { admission } from './admission.ts';
import { type AskSurroundings, ask, defaultRetryPolicy } from './ask.ts';
import type { CollectOptions } from './collect-options.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import type { CollectionTally } from './collection-report.ts';
import { responseOf } from './response-of.ts';
import type { ResponseStore } from './response-store.ts';
import { addSpending, nothingSpent } from './spending.ts';

/** How a collection is stopped: first nothing new is asked, then requests under way are given up. Whoever starts it ends it. */
interface Stopping {
  readonly stop: AbortController;
  readonly hangUp: AbortSignal;
  end(): void;
}

const startStopping = (signal: AbortSignal | undefined, graceMs: number, clock: Clock): Stopping => {
  const stop = new AbortController();
  const hangUp = new AbortController();
  const ended = new AbortController();
  const onAbort = (): void => stop.abort(signal?.reason);
  stop.signal.addEventListener('abort', () => {
    // What is under way was paid for: it may still arrive.
    clock.sleep(graceMs, ended.signal).then(
      () => hangUp.abort(stop.signal.reason),
      () => undefined,
    );
  });
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted === true) onAbort();
  return {
    stop,
    hangUp: hangUp.signal,
    end: () => {
      ended.abort();
      signal?.removeEventListener('abort', onAbort);
    },
  };
};

/** Asks every question, so many at once, and waits for all of them, whatever becomes of one. Throws the first error. */
export const askAll = async (
  open: readonly PlannedAnswer[],
  options: CollectOptions,
  store: ResponseStore,
  tally: CollectionTally,
): Promise<void> => {
  const { teacher, clock = systemClock, random = randomFrom(options.sampling.seed, 'waits'), concurrency = teacher.concurrency } = options;
  const { limits = {}, budget = {}, prices, spentElsewhere = nothingSpent } = options;
  const spentBefore = addSpending(store.spent(), spentElsewhere);
  const policy = { ...defaultRetryPolicy, ...options.retries };
  const admitted = admission({ clock, random, patienceMs: policy.patienceMs, limits, budget, prices, spentBefore });
  const { stop, hangUp, end } = startStopping(options.signal, options.graceMs ?? 20_000, clock);
  let firstError: { readonly thrown: unknown } | undefined;
  let nextIndex = 0;
  let underWayCount = 0;
  let unansweredInARow = 0;
  let hasAnswered = false;
  let lastProblem: string | undefined;

  const report = (): void => {
    const pausedUntilMs = admitted.gate.closedUntilMs();
    options.onProgress?.({
      ...tally.counts(),
      underWayCount,
      ...(pausedUntilMs === undefined ? {} : { pausedUntilMs }),
      ...(lastProblem === undefined ? {} : { lastProblem }),
    });
  };
  const surroundings: AskSurroundings = {
    teacher,
    admission: admitted,
    policy,
    clock,
    random,
    stop: stop.signal,
    hangUp,
    hasAnswered: () => hasAnswered,
    onSent: () => tally.countRequest(),
    onProblem: (problem) => {
      lastProblem = problem.message;
      report();
    },
  };

  const stopBecause = (thrown: unknown): void => {
    firstError ??= { thrown };
    stop.abort(thrown);
  };

  /**
   * Asks one question. Comes back when its answer outlives this process, so that the next one can be asked while the disk takes it, with what
   * resolves when it is on the disk and counts.
   */
  const answerOne = async (item: PlannedAnswer, previous: Promise<void>): Promise<{ readonly counted: Promise<void> }> => {
    const messages = item.messages();
    const { example, sampleIndex, sampling } = item;
    const request = { messages, sampling, exampleId: example.id, question: example.question, strategy: options.strategy.name, sampleIndex };
    const asked = await ask(request, surroundings);
    if (asked.outcome === 'answered') {
      admitted.gate.relax();
      hasAnswered = true;
      unansweredInARow = 0;
    }
    if (asked.outcome === 'interrupted' && asked.tryCount === 0) throw asked.thrown;
    const response = responseOf(item, messages, asked, options, clock);
    await previous; // A slow disk holds questions back: no more answers wait for it than questions are asked at once.
    const { onDisk } = await store.hand(response);
    const count = (): void => {
      tally.countAnswer(response);
      report();
    };
    if (asked.outcome === 'interrupted') stopBecause(asked.thrown);
    if (asked.outcome === 'unanswered' && ++unansweredInARow >= policy.maximumUnanswered) stopBecause(asked.problem);
    return { counted: onDisk.then(count).catch(stopBecause) };
  };

  const work = async (): Promise<void> => {
    let counted = Promise.resolve();
    for (let item = open[nextIndex++]; item !== undefined && !stop.signal.aborted; item = open[nextIndex++]) {
      underWayCount++;
      try {
        ({ counted } = await answerOne(item, counted));
      } catch (thrown) {
        stopBecause(thrown);
      } finally {
        underWayCount--;
      }
    }
    await counted;
  };

  try {
    await Promise.all(Array.from({ length: Math.min(concurrency, open.length) }, work));
  } finally {
    end();
  }
  if (firstError !== undefined) throw firstError.thrown;
  stop.signal.throwIfAborted();
};
