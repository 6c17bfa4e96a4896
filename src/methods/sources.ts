import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { sha256OfFile } from '../base/folders.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { strategies } from '../priming/strategies.ts';
import { CollectionStoppedError, type CollectOptions, collect } from '../responses/collect.ts';
import type { Response } from '../responses/response.ts';
import { readResponses, storeResponses } from '../responses/response-store.ts';
import { goldResponses, shuffledResponses } from '../responses/sources.ts';
import { addUsage } from '../responses/spending.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { type CollectFacts, runStage, stageNames } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import { listedPrices } from '../teachers/prices.ts';
import { recordedTeacher } from '../teachers/recorded.ts';
import type { Teacher, Usage } from '../teachers/teacher.ts';
import type { RedactHook } from './hooks.ts';
import { spentElsewhere } from './run-spending.ts';
import type { Surroundings } from './surroundings.ts';

export interface SourceOptions {
  readonly config: RunConfig;
  readonly run: RunFolder;
  readonly task: Task;
  readonly examples: readonly Example[];
  /** Opens the run's teacher, once for all strategies. */
  readonly openTeacher: () => Promise<Teacher>;
  /** Which weights answer where the teacher is local. */
  readonly teacherRevision: () => Promise<string | undefined>;
  /** Opens the judge of answers, where the config has one. */
  readonly openJudge: () => Promise<Teacher>;
  readonly redact?: RedactHook | undefined;
  readonly surroundings: Surroundings;
}

/** An arm whose answers are kept in a store of its own. */
export type OwnArm = Exclude<ArmConfig, { kind: 'selected' }>;

/**
 * The answers that an arm has: asked of the teacher under its strategy, read from a recording, the data set's own, or another arm's (of
 * `answersOf`) under the wrong questions. Each is kept in the run's store, one line an answer, whatever becomes of the rest.
 */
export const collectSource = async (
  arm: OwnArm,
  options: SourceOptions,
  answersOf: ReadonlyMap<string, readonly Response[]> = new Map(),
): Promise<readonly Response[]> => {
  const { config, run, task, examples, openTeacher, surroundings } = options;
  const folder = join(run.paths.responses, arm.name);
  const others = arm.kind === 'shuffled' ? (answersOf.get(arm.of) ?? []) : [];
  const stage = await runStage(run, { name: stageNames.collect(arm.name), key: await sourceKey(arm, others, options) }, async () => {
    if (arm.kind === 'gold') return stored(folder, goldResponses(examples, task));
    if (arm.kind === 'shuffled') return stored(folder, shuffledResponses(others, 0, examples, task));
    const teacher = arm.kind === 'recorded' ? await recordedTeacher(arm.file) : await openTeacher();
    try {
      const report = await collect({
        ...(await collectionOf(arm, teacher, options)),
        onProgress: ({ doneCount, wantedCount, failedCount, underWayCount, lastProblem }) =>
          surroundings.onProgress?.(`collect ${arm.name}`, {
            doneCount,
            totalCount: wantedCount,
            note: lastProblem ?? noteOf(failedCount, config.collection.batch === undefined ? 0 : underWayCount),
          }),
        ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
      });
      const unansweredCount = report.failures.unanswered ?? 0;
      if (unansweredCount > 0) {
        throw new UserError(
          `${arm.name}: ${unansweredCount} of ${report.wantedCount} questions got no answer in all tries; the rest are kept in ${folder}. ` +
            'Run the same command again to ask those that are missing, or leave them out with task.train.limit.',
        );
      }
      if (report.failedCount > 0) {
        const reasons = Object.entries(report.failures).map(([reason, count]) => `${count} ${reason}`);
        await warn(
          `${report.failedCount} of ${report.wantedCount} questions have no usable answer (${reasons.join(', ')}). Set collection.retryFailed to ask them again.`,
          arm,
          options,
        );
      }
      const { keys, keptCount, failedCount } = report;
      const answers = await readResponses(folder, { keys, statuses: ['kept', 'failed'] });
      const usage = answers.reduce<Usage | undefined>((sum, response) => addUsage(sum, response.usage), undefined);
      const tokens = usage && { promptTokenCount: usage.promptTokens, completionTokenCount: usage.completionTokens };
      const prices = answers.flatMap(({ costUsd }) => costUsd ?? []);
      const cost = prices.length > 0 && { costUsd: prices.reduce((sum, price) => sum + price, 0) };
      return {
        files: [folder],
        facts: { keys: [...keys], keptCount, failedCount, rejectedCount: 0, ...tokens, ...cost, ...redactFact(arm, options) },
      };
    } finally {
      if (arm.kind === 'recorded') await teacher.release();
    }
  });
  const keys = stage.facts.keys as string[];
  return readResponses(folder, { keys });
};

/**
 * Hands in all arms' batches before any of them is waited for: they are a day under way together, and not one after the other. What the
 * budget does not reach for is left to `collectSource`, which says so.
 */
export const submitBatches = async (arms: readonly ArmConfig[], options: SourceOptions): Promise<void> => {
  const { config, openTeacher, surroundings } = options;
  const primed = arms.filter((arm) => arm.kind === 'strategy');
  // A single one is handed in when it is collected.
  if (config.collection.batch === undefined || primed.length < 2) return;
  const teacher = await openTeacher();
  for (const arm of primed) {
    const whole = await collectionOf(arm, teacher, options);
    try {
      await collect({ ...whole, batch: { ...whole.batch, waits: false }, ...(surroundings.signal && { signal: surroundings.signal }) });
    } catch (thrown) {
      if (!(thrown instanceof CollectionStoppedError) || surroundings.signal?.aborted === true) throw thrown;
    }
  }
};

/** Which function saw the texts before they were sent, for the card. */
const redactFact = ({ kind }: OwnArm, { redact }: SourceOptions) =>
  kind === 'strategy' && redact !== undefined ? { redactHash: redact.hash } : {};

/** Kept in the run and told at once: terms of use are to be read before money is spent. */
const warn = async (message: string, arm: ArmConfig, { run, surroundings }: Pick<SourceOptions, 'run' | 'surroundings'>): Promise<void> => {
  surroundings.say?.(`${arm.name}: ${message}`);
  await run.warn(stageNames.collect(arm.name), message);
};

/** What a teacher is asked for an arm, within the run's budget and limits. */
export const collectionOf = async <Asked extends Pick<Teacher, 'identity'>>(
  arm: Extract<ArmConfig, { kind: 'strategy' | 'recorded' }>,
  teacher: Asked,
  options: Omit<SourceOptions, 'openTeacher' | 'teacherRevision' | 'openJudge'>,
): Promise<Omit<CollectOptions, 'teacher'> & { readonly teacher: Asked }> => {
  const { config, run, task, examples } = options;
  const { answersPerQuestion, accept, ...sampling } = config.sampling;
  const { budget, limits, retryFailed, batch } = config.collection;
  const prices = config.collection.prices ?? (await listedPrices(teacher.identity));
  return {
    examples,
    task,
    // A recording is asked as an unprimed teacher is: how its answers were got is its maker's to say.
    strategy: arm.kind === 'recorded' ? (strategies.none as NonNullable<typeof strategies.none>) : arm.strategy,
    source: arm.name,
    teacher,
    sampling,
    samplesPerQuestion: answersPerQuestion,
    accept,
    retryFailed,
    budget,
    limits,
    ...(batch !== undefined && arm.kind === 'strategy' && { batch: batchWays(batch) }),
    spentElsewhere: await spentElsewhere(join(run.paths.responses, arm.name), { config, run, prices }),
    ...(options.redact !== undefined && { redact: options.redact.call }),
    ...(prices !== undefined && { prices }),
    folder: join(run.paths.responses, arm.name),
    onWarning: (message) => void warn(message, arm, options),
  };
};

const noteOf = (failedCount: number, inBatchCount: number): string =>
  [...(failedCount === 0 ? [] : [`${failedCount} failed`]), ...(inBatchCount === 0 ? [] : [`${inBatchCount} in batches`])].join(', ');

const batchWays = ({ pollSeconds, requestCount }: NonNullable<RunConfig['collection']['batch']>) => ({
  pollMs: pollSeconds * 1000,
  ...(requestCount !== undefined && { requestCount }),
});

const stored = async (folder: string, responses: readonly Response[]) => {
  await storeResponses(folder, responses);
  const facts: CollectFacts = { keptCount: responses.length, failedCount: 0, rejectedCount: 0 };
  return { files: [join(folder, 'responses.jsonl')], facts: { ...facts, keys: responses.map(({ requestKey }) => requestKey) } };
};

/** Gold solutions are the same whatever the teacher is told when it reads them. */
const answersKey = (arm: OwnArm) => {
  if (arm.kind === 'strategy') return { ...arm.strategy };
  return arm.kind === 'gold' ? { kind: arm.kind, name: arm.name } : { ...arm };
};

/** All that decides an arm's answers, so that a finished stage is done anew when any of it changed. */
const sourceKey = async (arm: OwnArm, others: readonly Response[], options: SourceOptions) => {
  const { config, task, examples, redact } = options;
  const revision = arm.kind === 'strategy' ? await options.teacherRevision() : undefined;
  return {
    arm: answersKey(arm),
    ...(arm.kind === 'recorded' && { fileHash: await sha256OfFile(arm.file) }),
    teacher: arm.kind === 'strategy' ? JSON.stringify(config.teacher) : '',
    ...(revision !== undefined && { revision }),
    ...(arm.kind === 'shuffled' && { of: hashOf(others.map(({ requestKey, text }) => [requestKey, text])) }),
    ...(arm.kind === 'strategy' && redact !== undefined && { redact: redact.hash }),
    sampling: { ...config.sampling },
    // Switched on, a finished stage asks again for what failed, and for nothing else.
    ...(config.collection.retryFailed && { retryFailed: true }),
    instruction: task.instruction,
    questions: examples.map(({ id, question, solution }) => [id, question, solution]),
  };
};

/**
 * Arms matched by questions: only questions that every arm has a kept answer to are trained on, so that an arm whose teacher was cut off
 * more often does not also learn from other questions than the rest.
 */
export const matchedByQuestion = (sources: ReadonlyMap<string, readonly Response[]>): Map<string, readonly Response[]> => {
  const answered = [...sources.values()].map((responses) => new Set(responses.map(({ exampleId }) => exampleId)));
  const common = answered.reduce((left, right) => left.intersection(right), answered[0] ?? new Set<string>());
  return new Map([...sources].map(([name, responses]) => [name, responses.filter(({ exampleId }) => common.has(exampleId))]));
};
