import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import type { VerifyConfig } from '../config/collection-section.ts';
import { type CollectOptions, collect } from '../responses/collect.ts';
import { planCollection } from '../responses/collection-plan.ts';
import { type Estimate, estimateCollection } from '../responses/estimate.ts';
import { judgeExample, judgeStrategy, judgeTask, verificationOf } from '../responses/judge-model.ts';
import type { Response } from '../responses/response.ts';
import { readResponses } from '../responses/response-store.ts';
import type { Verification } from '../responses/verify.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import type { Example } from '../tasks/task.ts';
import { listedPrices } from '../teachers/prices.ts';
import { spentElsewhere } from './run-spending.ts';
import type { SourceOptions } from './sources.ts';

export type JudgeConfig = Extract<VerifyConfig, { by: 'judge' }>;

/** The answers that a teacher or a recording gave: those that are verified. */
export type AnsweredArm = Extract<ArmConfig, { kind: 'strategy' | 'recorded' }>;

/**
 * A judge's opinion of every answer of an arm, by the answer's key. Verdicts are kept in the run's folder as answers are, one line each, whatever
 * becomes of the rest, and come out of the same budget.
 */
export const judgeAnswers = async (
  arm: AnsweredArm,
  answers: readonly Response[],
  judge: JudgeConfig,
  options: SourceOptions,
): Promise<ReadonlyMap<string, Verification>> => {
  const { run, surroundings } = options;
  if (answers.length === 0) return new Map();
  const { prices: _, teacher, ...ways } = judge;
  const key = {
    ways,
    teacher: JSON.stringify(teacher),
    redact: options.redact?.hash ?? '',
    answers: hashOf(answers.map(({ requestKey, text }) => [requestKey, text])),
    retryFailed: options.config.collection.retryFailed,
  };
  const stage = await runStage(run, { name: stageNames.judge(arm.name), key }, async () => {
    const collection = await judgingOf(arm, answers, judge, options);
    const report = await collect({
      ...collection,
      onProgress: ({ doneCount, wantedCount, lastProblem }) =>
        surroundings.onProgress?.(`judge ${arm.name}`, { doneCount, totalCount: wantedCount, note: lastProblem ?? '' }),
      ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
    });
    const { keys, keptCount, failedCount, failures, wantedCount, folder } = report;
    if ((failures.unanswered ?? 0) > 0)
      throw new UserError(
        `${arm.name}: the judge gave no answer to ${failures.unanswered} of ${wantedCount} in all tries; the rest are kept in ${folder}. Run the same command again to ask for those that are missing.`,
      );
    return { files: [folder], facts: { keys: [...keys], keptCount, failedCount } };
  });
  const verdicts = await readResponses(join(run.paths.verdicts, arm.name), {
    keys: stage.facts['keys'] as string[],
    statuses: ['kept', 'failed'],
  });
  const verdictOf = new Map(verdicts.map((verdict) => [verdict.exampleId, verdict]));
  const verified = new Map(answers.map(({ requestKey }) => [requestKey, verificationOf(verdictOf.get(requestKey))]));
  const silentCount = [...verified.values()].filter(({ score }) => score === Number.NEGATIVE_INFINITY).length;
  if (silentCount > 0)
    await run.warn(
      stageNames.judge(arm.name),
      `${silentCount} of ${answers.length} answers have no score of the judge and count as not right.`,
    );
  return verified;
};

/** What the judge is asked about an arm's answers, within the run's budget and limits. */
const judgingOf = async (
  arm: AnsweredArm,
  answers: readonly Response[],
  judge: JudgeConfig,
  { config, run, examples, openJudge, redact, surroundings }: SourceOptions,
): Promise<CollectOptions> => {
  const teacher = await openJudge();
  const exampleOf = new Map(examples.map((example) => [example.id, example]));
  const folder = join(run.paths.verdicts, arm.name);
  const prices = judge.prices ?? (await listedPrices(teacher.identity));
  const { budget, limits, retryFailed } = config.collection;
  return {
    examples: answers.flatMap((answer) => {
      const example = exampleOf.get(answer.exampleId);
      return example === undefined ? [] : [judgeExample(judge, answer, example)];
    }),
    task: judgeTask(judge),
    strategy: judgeStrategy,
    source: arm.name,
    teacher,
    sampling: { maximumTokens: judge.maximumTokens, temperature: judge.temperature, topP: 1, seed: 0 },
    retryFailed,
    budget,
    limits,
    spentElsewhere: await spentElsewhere(folder, { config, run }),
    ...(redact !== undefined && { redact: redact.call }),
    ...(prices !== undefined && { prices }),
    folder,
    onWarning: (message) => {
      surroundings.say?.(`the judge of ${arm.name}: ${message}`);
      void run.warn(stageNames.judge(arm.name), message);
    },
  };
};

/**
 * What judging will cost: a few answers are judged, which is kept, and the rest is reckoned from them. Answers that are not there yet are taken to be
 * like those that are.
 */
export const estimateJudging = async (
  arm: AnsweredArm,
  sample: readonly Response[],
  openAnswers: readonly Example[],
  judge: JudgeConfig,
  options: SourceOptions,
): Promise<Estimate> => {
  const { surroundings, config } = options;
  const whole = await judgingOf(arm, sample, judge, options);
  const { keys } = await collect({ ...whole, ...(surroundings.signal !== undefined && { signal: surroundings.signal }) });
  const verdicts = await readResponses(whole.folder, { keys, statuses: ['kept', 'failed'] });
  const standIns = openAnswers.flatMap((example, index) => {
    const answer = sample[index % Math.max(1, sample.length)];
    return answer === undefined ? [] : [judgeExample(judge, { ...answer, requestKey: `open-${index}` }, example)];
  });
  return estimateCollection({
    planned: planCollection({ ...whole, examples: standIns }),
    sample: verdicts,
    sampled: planCollection(whole),
    prices: whole.prices,
    concurrency: whole.teacher.concurrency,
    limits: config.collection.limits,
  });
};
