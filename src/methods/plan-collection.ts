import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { lockFolder } from '../base/folder-lock.ts';
import { ownerOnlyFolder } from '../base/folders.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { primedMessages } from '../priming/primed-messages.ts';
import { collect } from '../responses/collect.ts';
import { planCollection } from '../responses/collection-plan.ts';
import { type Estimate, estimateCollection, estimateText } from '../responses/estimate.ts';
import type { Response } from '../responses/response.ts';
import { isOpen, openResponseStore, readResponses } from '../responses/response-store.ts';
import { discounted } from '../responses/spending.ts';
import { runPaths } from '../run-folder/paths.ts';
import { createRun } from '../run-folder/run-folder.ts';
import type { Example } from '../tasks/task.ts';
import { takesBatches } from '../teachers/batches.ts';
import type { ListedPrices } from '../teachers/prices.ts';
import type { ChatMessage, Teacher } from '../teachers/teacher.ts';
import { termsFor } from '../teachers/terms.ts';
import { curateQuestions, curateQuestionsOfRun } from './curate-questions.ts';
import { redactHookOf } from './hooks.ts';
import { estimateJudging } from './judging.ts';
import { runJudge, runTeacher } from './local-teacher.ts';
import { questionsOf } from './questions.ts';
import { type RunOptions, runBeginning } from './run-plan.ts';
import { collectionOf, type SourceOptions } from './sources.ts';
import type { Surroundings } from './surroundings.ts';

/** The first prompts of an arm, as the teacher will see them. */
export interface PromptPreview {
  readonly arm: string;
  readonly prompts: readonly { readonly exampleId: string; readonly messages: readonly ChatMessage[] }[];
}

/** What `retort collect --dry-run` does: the first prompts of every arm that a teacher answers. Nobody is asked. */
export const previewPrompts = async (config: RunConfig, count: number, surroundings: Surroundings): Promise<PromptPreview[]> => {
  const questions = await questionsOf(config.task, surroundings);
  const { task } = questions;
  const { train } = await curateQuestions(questions, config);
  const { call: redact = (text: string) => text } = (await redactHookOf(config)) ?? {};
  const messagesOf = (strategy: PrimedArm['strategy'], example: Example): ChatMessage[] =>
    primedMessages(strategy, example, task.instruction).map(({ role, content }) => ({ role, content: redact(content) }));
  return primedArms(config).map(({ name, strategy }) => ({
    arm: name,
    prompts: train.slice(0, count).map((example) => ({ exampleId: example.id, messages: messagesOf(strategy, example) })),
  }));
};

/** What an arm will still cost. */
export interface ArmEstimate {
  readonly arm: string;
  readonly estimate: Estimate;
  readonly text: string;
}

export interface RunEstimate {
  readonly arms: readonly ArmEstimate[];
  /** Where the prices come from; absent where none are known. */
  readonly priceSource?: string;
  readonly terms: readonly string[];
  /** Whether a run asks this teacher the test questions, too, which is not reckoned here but comes out of the same budget. */
  readonly asksTest: boolean;
}

/**
 * What `retort collect --estimate` does: the first answers of every arm are collected, kept, and measured, and the rest is reckoned from them.
 * They are the only ones that cost anything.
 */
export const estimateRun = async (options: RunOptions, surroundings: Surroundings, sampleCount: number): Promise<RunEstimate> => {
  const { config, folder } = options;
  const questions = await questionsOf(config.task, surroundings);
  const { task } = questions;
  const redact = await redactHookOf(config);
  const lock = await lockFolder(folder, ownerOnlyFolder);
  const runTeacherOf = runTeacher(config, surroundings);
  const judge = runJudge(config, surroundings);
  try {
    const run = await createRun(folder, runBeginning(options, task, surroundings));
    const { train } = await curateQuestionsOfRun(questions, { run, config, surroundings });
    const teacher = await runTeacherOf.open();
    const asking = { openTeacher: runTeacherOf.open, teacherRevision: runTeacherOf.revision, openJudge: judge.open, redact };
    const shared: SourceOptions = { config, run, task, examples: train, ...asking, surroundings };
    const arms: ArmEstimate[] = [];
    let priceSource: string | undefined;
    for (const arm of primedArms(config)) {
      const { estimate, source, judging } = await estimateArm(arm, teacher, shared, sampleCount);
      priceSource = source;
      arms.push({ arm: arm.name, estimate, text: estimateText(estimate, config.collection.limits) });
      if (judging !== undefined)
        arms.push({ arm: `the judge of ${arm.name}`, estimate: judging, text: estimateText(judging, config.collection.limits) });
    }
    const asksTest = config.evaluation.teacher && !['recorded', 'local'].includes(config.teacher?.kind ?? 'recorded');
    return { arms, asksTest, terms: termsFor(teacher.identity), ...(priceSource === undefined ? {} : { priceSource }) };
  } finally {
    await runTeacherOf.release();
    await judge.release();
    await lock.release();
  }
};

const estimateArm = async (
  arm: PrimedArm,
  teacher: Teacher,
  shared: SourceOptions,
  sampleCount: number,
): Promise<{ estimate: Estimate; source: string | undefined; judging: Estimate | undefined }> => {
  const { batch, ...whole } = await collectionOf(arm, teacher, shared);
  // Asked one by one, at the full price: nobody waits a day for an estimate.
  const first = { ...whole, examples: whole.examples.slice(0, sampleCount) };
  const { signal } = shared.surroundings;
  const { keys } = await collect({ ...first, ...(signal !== undefined && { signal }) });
  const sample = await readResponses(whole.folder, { keys, statuses: ['kept', 'failed'] });
  const store = await openResponseStore(whole.folder);
  await store.close();
  const planned = planCollection(whole).filter(({ requestKey }) => isOpen(store.answers.get(requestKey), whole.retryFailed));
  const { limits = {}, concurrency = teacher.concurrency } = whole;
  const isBatch = batch !== undefined && takesBatches(teacher);
  const prices = whole.prices && isBatch ? discounted(whole.prices, teacher.batches.format.priceShare) : whole.prices;
  const estimate = estimateCollection({ planned, sample, sampled: planCollection(first), prices, concurrency, limits, isBatch });
  const { verify } = shared.config.collection;
  const open = planned.map(({ example }) => example);
  const usable = sample.filter(({ status }) => status === 'kept');
  const judging = verify.by === 'judge' ? await estimateJudging(arm, usable, open, verify, shared) : undefined;
  return { estimate, source: prices === undefined ? undefined : priceSourceOf(prices), judging };
};

const priceSourceOf = (prices: Partial<ListedPrices>): string => prices.source ?? 'the config';

/** What `retort collect --failures` lists: answers that are not learnt from, with their reasons. */
export const readFailures = async ({ config, folder }: Pick<RunOptions, 'config' | 'folder'>): Promise<Response[]> => {
  const paths = runPaths(folder);
  const found = await Promise.all(config.arms.map(({ name }) => readResponses(join(paths.responses, name), { statuses: ['failed'] })));
  return found.flat();
};

type PrimedArm = Extract<ArmConfig, { kind: 'strategy' }>;

/** The arms that a teacher answers. */
export const primedArms = ({ arms }: RunConfig): PrimedArm[] => {
  const primed = arms.filter((arm) => arm.kind === 'strategy');
  if (primed.length === 0) throw new UserError('No arm of this config asks a teacher: there is nothing to send and nothing to pay.');
  return primed;
};
