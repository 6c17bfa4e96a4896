import { type Clock, systemClock } from '../base/clock.ts';
import { messageOf, UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import type { TornLine } from '../base/json-lines.ts';
import { type Random, randomFrom } from '../base/random.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import { termsFor } from '../teachers/terms.ts';
import { admission } from './admission.ts';
import { type Asked, type AskSurroundings, ask, defaultRetryPolicy, type RetryPolicy } from './ask.ts';
import { type CollectionPlanOptions, type PlannedAnswer, planCollection } from './collection-plan.ts';
import { type CollectionReport, type CollectionTally, collectionTally } from './collection-report.ts';
import { type AcceptableFinish, judge } from './judge.ts';
import { writeProvenance } from './provenance.ts';
import type { Limits } from './rate-limiter.ts';
import { promptHash, teacherName } from './request-key.ts';
import type { Response } from './response.ts';
import { openResponseStore, type ResponseStore, readResponses, type StoredAnswer } from './response-store.ts';
import { addUsage, type Budget, BudgetReachedError, costUsd, type Prices } from './spending.ts';

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
  /** What the teacher's tokens cost; wanted for a budget in dollars. */
  readonly prices?: Prices;
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

/**
 * Collects a teacher's answers to questions under one strategy into a folder. Each answer is on the disk before it counts; whatever stops the
 * process, the next call goes on where it stopped, and asks again only for what was under way.
 */
export const collect = async (options: CollectOptions): Promise<CollectionReport> => {
  const { teacher, folder, clock = systemClock, signal, onWarning } = options;
  const planned = planCollection(options);
  const startMs = clock.now();
  const onTorn = ({ line }: TornLine): void =>
    onWarning?.(`${folder}: line ${line} was cut off in the middle when the last run ended; its question is asked again.`);
  const store = await openResponseStore(folder, { onTorn });
  try {
    await rejudge(planned, options, store);
    if (teacher.isFree !== true) for (const note of termsFor(teacher.identity)) onWarning?.(`${note} Make sure that your use is allowed.`);
    const open = planned.filter(({ requestKey }) => isOpen(store.answers.get(requestKey), options.retryFailed ?? false));
    const openKeys = new Set(open.map(({ requestKey }) => requestKey));
    const tally = collectionTally(planned, (key) => (openKeys.has(key) ? undefined : store.answers.get(key)));
    const strategy = options.strategy.name;
    await teacher.prepare?.(
      open.map(({ example, sampleIndex }) => ({ exampleId: example.id, question: example.question, strategy, sampleIndex })),
    );
    const report = (): CollectionReport => tally.report({ source: sourceOf(options), folder, durationMs: clock.now() - startMs });
    try {
      await askAll(open, options, store, tally);
    } catch (thrown) {
      if (thrown instanceof BudgetReachedError)
        throw new CollectionStoppedError(`${thrown.message} ${stopMessage(report(), 'Stopped')}`, report());
      if (signal?.aborted === true) throw new CollectionStoppedError(stopMessage(report(), 'Stopped'), report());
      if (thrown instanceof TeacherError) throw withCounts(thrown, report());
      throw thrown;
    } finally {
      // A full disk has its own error already.
      await writeCard(planned, options).catch((thrown: unknown) => onWarning?.(`No provenance card was written: ${messageOf(thrown)}`));
    }
    return report();
  } finally {
    await store.close();
  }
};

const writeCard = (planned: readonly PlannedAnswer[], options: CollectOptions): Promise<void> => {
  const { folder, teacher, strategy, task, sampling, samplesPerQuestion = 1, prices } = options;
  return writeProvenance(folder, {
    source: sourceOf(options),
    keys: planned.map(({ requestKey }) => requestKey),
    teacher: teacher.identity,
    strategy,
    task: { name: task.name, instruction: task.instruction },
    sampling,
    samplesPerQuestion,
    ...(prices && { prices }),
  });
};

const sourceOf = ({ source, strategy }: CollectOptions): string => source ?? strategy.name;

/** Whether a question is to be asked. */
const isOpen = (answer: StoredAnswer | undefined, retryFailed: boolean): boolean =>
  answer === undefined || (answer.status === 'failed' && (retryFailed || answer.reason === 'unanswered'));

/** Asks every question, so many at once, and waits for all of them, whatever becomes of one. Throws the first error. */
const askAll = async (
  open: readonly PlannedAnswer[],
  options: CollectOptions,
  store: ResponseStore,
  tally: CollectionTally,
): Promise<void> => {
  const { teacher, clock = systemClock, random = randomFrom(options.sampling.seed, 'waits'), signal, graceMs = 20_000 } = options;
  const policy = { ...defaultRetryPolicy, ...options.retries };
  const stop = new AbortController();
  const hangUp = new AbortController();
  const { limits = {}, budget = {}, prices } = options;
  const admitted = admission({ clock, random, patienceMs: policy.patienceMs, limits, budget, prices, spentBefore: store.spent() });
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
    hangUp: hangUp.signal,
    hasAnswered: () => hasAnswered,
    onSent: () => tally.countRequest(),
    onProblem: (problem) => {
      lastProblem = problem.message;
      report();
    },
  };

  const answerOne = async (item: PlannedAnswer): Promise<void> => {
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
    await store.append(response);
    tally.countAnswer(response);
    if (asked.outcome === 'interrupted') throw asked.thrown;
    if (asked.outcome === 'unanswered' && ++unansweredInARow >= policy.maximumUnanswered) throw asked.problem;
  };

  const work = async (): Promise<void> => {
    for (let item = open[nextIndex++]; item !== undefined && !stop.signal.aborted; item = open[nextIndex++]) {
      underWayCount++;
      try {
        await answerOne(item);
      } catch (thrown) {
        firstError ??= { thrown };
        stop.abort(thrown);
      } finally {
        underWayCount--;
      }
      report();
    }
  };

  const onAbort = (): void => stop.abort(signal?.reason);
  const finished = new AbortController();
  stop.signal.addEventListener('abort', () => {
    // What is under way was paid for: it may still arrive.
    clock.sleep(graceMs, finished.signal).then(
      () => hangUp.abort(stop.signal.reason),
      () => undefined,
    );
  });
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted === true) onAbort();
  try {
    await Promise.all(Array.from({ length: Math.min(options.concurrency ?? teacher.concurrency, open.length) }, work));
  } finally {
    finished.abort();
    signal?.removeEventListener('abort', onAbort);
  }
  if (firstError !== undefined) throw firstError.thrown;
  stop.signal.throwIfAborted();
};

const responseOf = (
  item: PlannedAnswer,
  messages: ReturnType<PlannedAnswer['messages']>,
  asked: Asked,
  options: CollectOptions,
  clock: Clock,
): Response => {
  const { task, strategy, teacher, accept = [] } = options;
  const { example } = item;
  const answer = asked.outcome === 'answered' ? asked.answer : undefined;
  const text = answer?.text ?? '';
  const verdict = answer === undefined ? undefined : judge({ finishReason: answer.finishReason, isEmpty: text.trim() === '' }, accept);
  const whole = addUsage(answer?.usage, addUsage(asked.wastedUsage, asked.assumedUsage));
  return {
    requestKey: item.requestKey,
    ...(verdict ?? { status: 'failed' as const, reason: asked.outcome === 'refused' ? 'refused' : 'unanswered' }),
    ...(asked.outcome === 'answered' ? {} : { detail: problemOf(asked) }),
    source: sourceOf(options),
    strategy: { name: strategy.name, version: strategy.version },
    exampleId: example.id,
    exampleHash: sha256(example.question),
    sampleIndex: item.sampleIndex,
    promptHash: promptHash(messages),
    text,
    ...(answer?.reasoning === undefined ? {} : { reasoning: answer.reasoning }),
    ...(answer?.tokens === undefined ? {} : { tokens: [...answer.tokens] }),
    finishReason: answer?.finishReason ?? 'other',
    gold: example.gold,
    ...task.score(text, example),
    ...(answer?.usage === undefined ? {} : { usage: answer.usage }),
    ...(asked.wastedUsage === undefined ? {} : { wastedUsage: asked.wastedUsage }),
    ...(asked.assumedUsage === undefined ? {} : { assumedUsage: asked.assumedUsage }),
    ...(whole === undefined || options.prices === undefined ? {} : { costUsd: costUsd(whole, options.prices) }),
    latencyMs: Math.round(asked.latencyMs),
    tryCount: asked.tryCount,
    teacher: teacherName(teacher.identity),
    ...(answer?.reportedModel === undefined ? {} : { reportedModel: answer.reportedModel }),
    collectedAt: new Date(clock.now()).toISOString(),
  };
};

/** What went wrong, for reading; errors of other kinds may say anything, and say it where they are thrown. */
const problemOf = (asked: Exclude<Asked, { outcome: 'answered' }>): string => {
  if (asked.outcome !== 'interrupted') return asked.problem.message;
  return asked.thrown instanceof TeacherError ? asked.thrown.message : 'The collection was stopped.';
};

/** Answers that another `accept` kept or failed are judged anew, not bought anew. */
const rejudge = async (planned: readonly PlannedAnswer[], { folder, accept = [] }: CollectOptions, store: ResponseStore): Promise<void> => {
  const changed = planned.filter(({ requestKey }) => {
    const answer = store.answers.get(requestKey);
    if (answer === undefined || answer.status === 'rejected' || answer.reason === 'unanswered' || answer.reason === 'refused') return false;
    const verdict = judge(answer, accept);
    return verdict.status !== answer.status || ('reason' in verdict && verdict.reason !== answer.reason);
  });
  if (changed.length === 0) return;
  const keys = changed.map(({ requestKey }) => requestKey);
  for (const { reason: _, ...response } of await readResponses(folder, { keys, statuses: ['kept', 'failed'] })) {
    const verdict = judge({ finishReason: response.finishReason, isEmpty: response.text.trim() === '' }, accept);
    await store.append({ ...response, ...verdict, isJudgedAgain: true });
  }
};

const stopMessage = ({ doneCount, wantedCount, folder }: CollectionReport, beginning: string): string =>
  `${beginning} with ${doneCount} of ${wantedCount} answers, which are kept in ${folder}. Run the same command again to go on.`;

/** The teacher's own words, and what becomes of what was collected. */
const withCounts = (error: TeacherError, report: CollectionReport): TeacherError =>
  new TeacherError(`${error.message} ${stopMessage(report, 'Stopped')}`, error.advice, {
    ...(error.status === undefined ? {} : { status: error.status }),
    ...(error.usage === undefined ? {} : { usage: error.usage }),
  });
