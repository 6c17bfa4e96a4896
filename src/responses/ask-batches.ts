import { randomUUID } from 'node:crypto';
import { systemClock } from '../base/clock.ts';
import { UserError } from '../base/errors.ts';
import { randomFrom } from '../base/random.ts';
import { type BatchService, type BatchSource, takesBatches } from '../teachers/batches.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import { defaultRetryPolicy } from './ask.ts';
import { type BatchJobs, batchJobsFile, openBatchJobs, type RecordedJob, reservedOf } from './batch-jobs.ts';
import { type JoinedResults, joinResults } from './batch-join.ts';
import type { CollectOptions } from './collect-options.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import type { CollectionTally } from './collection-report.ts';
import { type Patience, patienceWith } from './patience.ts';
import { responseOf } from './response-of.ts';
import { isOpen, type ResponseStore } from './response-store.ts';
import { addSpending, checkBudget, checkPrices, crossedBudget, nothingSpent, type Spending, spendingFor } from './spending.ts';
import { usageMeasure } from './usage-measure.ts';

/** Batches that one question may be part of before it counts as unanswered. */
const maximumRounds = 4;

/** What asking in batches works with. */
interface Work {
  readonly options: CollectOptions;
  readonly service: BatchService;
  readonly store: ResponseStore;
  readonly ledger: BatchJobs;
  readonly tally: CollectionTally;
  /** All of the collection, by key. */
  readonly planned: ReadonlyMap<string, PlannedAnswer>;
  /** Questions that are still to be answered. */
  readonly open: Map<string, PlannedAnswer>;
  /** How often each was in a batch that did not answer it. */
  readonly rounds: Map<string, number>;
  readonly measure: ReturnType<typeof usageMeasure>;
  readonly patience: Patience;
  readonly stop: AbortSignal;
  report(lastProblem?: string): void;
}

/**
 * Asks in a provider's batches and waits for their answers. Each batch is on the record before it is submitted and until its answers are in
 * the store, so that another process goes on where this one stopped. Requests that a batch did not answer go into the next one.
 */
export const askInBatches = async (
  planned: readonly PlannedAnswer[],
  open: readonly PlannedAnswer[],
  options: CollectOptions,
  store: ResponseStore,
  tally: CollectionTally,
): Promise<void> => {
  const { teacher, folder, clock = systemClock, random = randomFrom(options.sampling.seed, 'waits'), batch = {} } = options;
  if (!takesBatches(teacher))
    throw new UserError(`The teacher ${teacher.identity.model} takes no batches. Leave collection.batch out, or name one that does.`);
  checkPrices(options.budget ?? {}, options.prices);
  const { pollMs = 60_000, waits = true } = batch;
  const stop = options.signal ?? new AbortController().signal;
  const patience = patienceWith({ clock, random, policy: { ...defaultRetryPolicy, ...options.retries }, stop });
  const ledger = await openBatchJobs(folder);
  const work: Work = {
    ...{ options, service: teacher.batches, store, ledger, tally, patience, stop },
    planned: new Map(planned.map((item) => [item.requestKey, item])),
    open: new Map(open.map((item) => [item.requestKey, item])),
    rounds: new Map(),
    measure: usageMeasure(),
    report: (lastProblem) =>
      options.onProgress?.({ ...tally.counts(), underWayCount: tally.underWayCount(), ...(lastProblem && { lastProblem }) }),
  };
  let size = Math.min(batch.requestCount ?? Number.POSITIVE_INFINITY, teacher.batches.format.limits.requestCount);
  try {
    for (;;) {
      stop.throwIfAborted();
      patience.startTurn();
      const look = await lookAtJobs(work);
      // A provider that takes no more at once: less of it, and not before what it has is done.
      if (look.tooMuchCount !== undefined && ownJobs(work).length === 0) size = Math.min(size, smaller(look.tooMuchCount, look.problem));
      if (look.tooMuchCount === undefined || ownJobs(work).length === 0) await submitOpen(work, size);
      const underWay = ownJobs(work);
      tally.setUnderWay(underWay.reduce((sum, { openIds }) => sum + openIds.length, 0));
      work.report(patience.lastProblem());
      if (underWay.length === 0 && work.open.size === 0) return;
      if (!waits && patience.waitMs() === undefined && underWay.length > 0) return;
      await clock.sleep(patience.waitMs() ?? pollMs, stop);
    }
  } finally {
    await ledger.close();
  }
};

/** Half of a batch that was too much; what the provider said where there is no half. */
const smaller = (count: number, problem: TeacherError | undefined): number => {
  if (count <= 1 && problem !== undefined) throw problem;
  return Math.max(1, Math.floor(count / 2));
};

/** Batches that may have an answer for this collection; those of another config stay on the record for it. */
const ownJobs = ({ ledger, planned }: Work): RecordedJob[] =>
  [...ledger.jobs.values()].filter(({ openIds }) => openIds.some((id) => planned.has(id)));

interface Look {
  /** The size of a batch that the provider refused since it was too much at once. */
  readonly tooMuchCount?: number;
  readonly problem?: TeacherError;
}

/** Takes in what has ended, and finds out what became of batches that nobody confirmed. */
const lookAtJobs = async (work: Work): Promise<Look> => {
  const { ledger, service, patience, stop } = work;
  let look: Look = {};
  for (const job of ownJobs(work)) {
    const providerId = job.providerId ?? (await findJob(job, work));
    if (providerId === undefined) continue;
    const state = await patience.attempt(`poll ${job.name}`, () =>
      service.poll(providerId, stop).catch((thrown) => failPoll(thrown, work)),
    );
    if (state?.status === 'ended') await takeIn(job, state.sources, work);
    if (state?.status === 'refused') {
      await ledger.settle(job.name, []);
      if (!state.isTooMuch) throw state.problem;
      look = { tooMuchCount: job.ids.length, problem: state.problem };
    }
  }
  return look;
};

/** A batch that the provider does not know cannot be fetched, and may have been paid for: that is for the user to decide. */
const failPoll = (thrown: unknown, { options }: Work): never => {
  if (!(thrown instanceof TeacherError) || thrown.status !== 404) throw thrown;
  throw new TeacherError(
    `${thrown.message} A batch of another account wants that account's key. If it is gone for good, delete ${batchJobsFile(options.folder)}: its questions are then asked again.`,
    thrown.advice,
    { status: 404 },
  );
};

/** The provider's id of a batch of which nobody knows whether it was submitted. One that was not is off the record. */
const findJob = async (job: RecordedJob, { ledger, service, patience, stop }: Work): Promise<string | undefined> => {
  const known = new Set([...ledger.jobs.values()].flatMap(({ providerId }) => providerId ?? []));
  const found = await patience.attempt(`find ${job.name}`, () => service.find(job, known, stop));
  if (found?.found === 'no') await ledger.settle(job.name, []);
  if (found?.found !== 'yes') return undefined;
  await ledger.confirm(job.name, found.providerId);
  return found.providerId;
};

/** Puts a batch's answers into the store, then takes it off the record. */
const takeIn = async (job: RecordedJob, sources: readonly BatchSource[], work: Work): Promise<void> => {
  const { service, store, ledger, options, planned, open, measure, rounds, tally, patience, stop } = work;
  const isWanted = (id: string): boolean => open.has(id) || isOpen(store.answers.get(id));
  const place = (id: string) => {
    const item = planned.get(id);
    if (item === undefined) return undefined;
    const fullUsage = () => measure.full({ messages: item.messages(), sampling: item.sampling });
    return { item, options, store, isOpen: isWanted(id), tryCount: 1 + (rounds.get(id) ?? 0), fullUsage };
  };
  const joined = await patience.attempt(`results ${job.name}`, () =>
    joinResults(service.results(sources, stop), place, (response) => {
      const item = open.get(response.requestKey);
      if (item !== undefined && response.usage !== undefined) measure.observe({ messages: item.messages() }, response.usage);
      open.delete(response.requestKey);
      tally.setUnderWay(tally.underWayCount() - 1);
      tally.countAnswer(response);
      work.report();
    }),
  );
  if (joined === undefined) return;
  const left = job.openIds.filter((id) => !planned.has(id));
  await ledger.settle(job.name, left);
  await countRounds(job, joined, work);
};

/** What a batch did not answer stays open, for so many rounds; what concerns all requests alike is thrown when the answers are safe. */
const countRounds = async (job: RecordedJob, { problems }: JoinedResults, work: Work): Promise<void> => {
  const { open, rounds, options, store, tally, patience } = work;
  const unanswered = job.openIds.flatMap((id) => open.get(id) ?? []);
  const givenUp: Promise<void>[] = [];
  let forAll: TeacherError | undefined;
  for (const item of unanswered) {
    const count = 1 + (rounds.get(item.requestKey) ?? 0);
    rounds.set(item.requestKey, count);
    const problem =
      problems.get(item.requestKey) ?? new TeacherError('The batch ended without a word of this request.', { retry: 'later' });
    patience.note(problem);
    forAll ??= problem.advice.retry === 'never' ? problem : undefined;
    if (count < maximumRounds) continue;
    const tries = { tryCount: count, latencyMs: 0, wastedUsage: undefined, assumedUsage: undefined };
    const response = responseOf(item, item.messages(), { outcome: 'unanswered', problem, ...tries }, options, options.clock ?? systemClock);
    open.delete(item.requestKey);
    givenUp.push(store.append(response).then(() => tally.countAnswer(response)));
  }
  await Promise.all(givenUp);
  if (forAll !== undefined) throw forAll;
};

interface Part {
  readonly ids: string[];
  readonly lines: string[];
  sizeBytes: number;
  reserved: Spending;
}

const emptyPart = (): Part => ({ ids: [], lines: [], sizeBytes: 0, reserved: nothingSpent });

/** Hands in what is open and in no batch yet, as far as the budget goes, in parts that the provider takes. */
const submitOpen = async (work: Work, requestCount: number): Promise<void> => {
  const { options, service, store, ledger, open, measure, patience } = work;
  const { budget = {}, prices, spentElsewhere = nothingSpent } = options;
  const { sizeBytes } = service.format.limits;
  const covered = new Set(ownJobs(work).flatMap(({ openIds }) => openIds));
  const spent = (): Spending => addSpending(store.spent(), spentElsewhere);
  const held = (): Spending => addSpending(spent(), reservedOf(ledger.jobs.values()));
  let before = held();
  let part = emptyPart();
  let unaffordable: Spending | undefined;
  for (const [id, item] of open) {
    if (covered.has(id)) continue;
    const request = { messages: item.messages(), sampling: item.sampling };
    const cost = spendingFor(measure.full(request), prices);
    if (crossedBudget(budget, addSpending(before, addSpending(part.reserved, cost))) !== undefined) {
      unaffordable = cost;
      break;
    }
    const line = service.format.requestLine(id, request);
    const lineBytes = Buffer.byteLength(line) + 1;
    if (part.lines.length >= requestCount || (part.lines.length > 0 && part.sizeBytes + lineBytes > sizeBytes)) {
      await submit(part, work);
      if (patience.waitMs() !== undefined) return; // One thing at a time with a provider in trouble.
      before = held();
      part = emptyPart();
    }
    part.ids.push(id);
    part.lines.push(line);
    part.sizeBytes += lineBytes;
    part.reserved = addSpending(part.reserved, cost);
  }
  if (part.lines.length > 0) await submit(part, work);
  // What is under way may turn out to cost less than it could.
  if (unaffordable !== undefined && ownJobs(work).length === 0) checkBudget(budget, held(), unaffordable);
};

/** On the record first: whatever happens in between, it is known by its name. */
const submit = async ({ ids, lines, reserved }: Part, { service, ledger, options, tally, patience, stop }: Work): Promise<void> => {
  const mark = await patience.attempt('submit', async () => ({ mark: await service.mark(stop) }));
  if (mark === undefined) return;
  const job = { name: randomUUID(), ids, plannedAtMs: (options.clock ?? systemClock).now(), ...mark };
  await ledger.plan({ ...job, reserved });
  const providerId = await patience.attempt(
    'submit',
    () => service.submit(job, lines, stop),
    // Refused for good: nothing was taken.
    () => ledger.settle(job.name, []),
  );
  if (providerId === undefined) return;
  await ledger.confirm(job.name, providerId);
  for (const _ of ids) tally.countRequest();
};
