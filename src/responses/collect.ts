import { systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { TornLine } from '../base/json-lines.ts';
import { takesBatches } from '../teachers/batches.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import { termsFor } from '../teachers/terms.ts';
import { askAll } from './ask-all.ts';
import { askInBatches } from './ask-batches.ts';
import { refuseUnderWay } from './batch-jobs.ts';
import { CollectionStoppedError, type CollectOptions, sourceOf } from './collect-options.ts';
import { type PlannedAnswer, planCollection } from './collection-plan.ts';
import { type CollectionReport, collectionTally } from './collection-report.ts';
import { judge } from './judge.ts';
import { answerCounter, type CountedAnswers, writeProvenance } from './provenance.ts';
import { isOpen, openResponseStore, type ResponseStore, readResponses } from './response-store.ts';
import { BudgetReachedError, discounted } from './spending.ts';

export type { CollectionProgress, CollectOptions } from './collect-options.ts';
export { CollectionStoppedError } from './collect-options.ts';

/**
 * Collects a teacher's answers to questions under one strategy into a folder. Each answer is on the disk before it counts; whatever stops the
 * process, the next call goes on where it stopped, and asks again only for what was under way.
 */
export const collect = async (given: CollectOptions): Promise<CollectionReport> => {
  const options = withBatchPrices(given);
  const { teacher, folder, clock = systemClock, signal, onWarning } = options;
  const planned = planCollection(options);
  const startMs = clock.now();
  const onTorn = ({ line }: TornLine): void =>
    onWarning?.(`${folder}: line ${line} was cut off in the middle when the last run ended; its question is asked again.`);
  const counter = answerCounter(planned.map(({ requestKey }) => requestKey));
  const store = await openResponseStore(folder, { onTorn, onAnswer: counter.add });
  try {
    await rejudge(planned, options, store);
    const open = planned.filter(({ requestKey }) => isOpen(store.answers.get(requestKey), options.retryFailed));
    if (open.length > 0 && teacher.isFree !== true)
      for (const note of termsFor(teacher.identity)) onWarning?.(`${note} Make sure that your use is allowed.`);
    const tally = collectionTally(planned, (key) => {
      const answer = store.answers.get(key);
      return isOpen(answer, options.retryFailed) ? undefined : answer;
    });
    const strategy = options.strategy.name;
    await teacher.prepare?.(
      open.map(({ example, sampleIndex }) => ({ exampleId: example.id, question: example.question, strategy, sampleIndex })),
    );
    const report = (): CollectionReport => tally.report({ source: sourceOf(options), folder, durationMs: clock.now() - startMs });
    try {
      if (options.batch === undefined) {
        await refuseUnderWay(folder, open);
        await askAll(open, options, store, tally);
      } else await askInBatches(planned, open, options, store, tally);
    } catch (thrown) {
      if (thrown instanceof BudgetReachedError)
        throw new CollectionStoppedError(`${thrown.message} ${stopMessage(report(), 'Stopped')}`, report());
      if (signal?.aborted === true) throw new CollectionStoppedError(stopMessage(report(), 'Stopped'), report());
      if (thrown instanceof TeacherError) throw withCounts(thrown, report());
      throw thrown;
    } finally {
      // A full disk has its own error already.
      await writeCard(counter.counted(), options).catch((thrown: unknown) =>
        onWarning?.(`No provenance card was written: ${messageOf(thrown)}`),
      );
    }
    return report();
  } finally {
    await store.close();
  }
};

/** What a batch costs decides what is counted, bounded and recorded. */
const withBatchPrices = (options: CollectOptions): CollectOptions => {
  const { batch, prices, teacher } = options;
  if (batch === undefined || prices === undefined || !takesBatches(teacher)) return options;
  return { ...options, prices: discounted(prices, teacher.batches.format.priceShare) };
};

const writeCard = (counted: CountedAnswers, options: CollectOptions): Promise<void> => {
  const { folder, teacher, strategy, task, sampling, samplesPerQuestion = 1, prices } = options;
  return writeProvenance(folder, {
    source: sourceOf(options),
    counted,
    teacher: teacher.identity,
    strategy,
    task: { name: task.name, instruction: task.instruction },
    sampling,
    samplesPerQuestion,
    ...(prices && { prices }),
  });
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

const stopMessage = ({ doneCount, wantedCount, folder, underWayCount = 0 }: CollectionReport, beginning: string): string => {
  const underWay = underWayCount === 0 ? '' : ` ${underWayCount} more are under way in batches, which go on at the provider.`;
  return `${beginning} with ${doneCount} of ${wantedCount} answers, which are kept in ${folder}.${underWay} Run the same command again to go on.`;
};

/** The teacher's own words, and what becomes of what was collected. */
const withCounts = (error: TeacherError, report: CollectionReport): TeacherError =>
  new TeacherError(`${error.message} ${stopMessage(report, 'Stopped')}`, error.advice, {
    ...(error.status === undefined ? {} : { status: error.status }),
    ...(error.usage === undefined ? {} : { usage: error.usage }),
  });
