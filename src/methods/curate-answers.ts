import { join } from 'node:path';
import { InternalError } from '../base/errors.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import { countBy } from '../responses/collection-report.ts';
import { type Curation, curate } from '../responses/curate.ts';
import type { EvaluationText } from '../responses/decontaminate.ts';
import type { Response } from '../responses/response.ts';
import { type KeepPolicy, selectResponses, yieldOf } from '../responses/select.ts';
import { type Verification, type Verify, verifyByFunction, verifyBySchema, verifyByTask } from '../responses/verify.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { Json } from '../run-folder/manifest.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import type { Example } from '../tasks/task.ts';
import { recordCuration, writeLines } from './curation-files.ts';
import { verifyHookOf } from './hooks.ts';
import { type AnsweredArm, judgeAnswers } from './judging.ts';
import type { SourceOptions } from './sources.ts';

/** An arm's usable answers and what became of them. */
interface CuratedArm {
  readonly name: string;
  readonly answers: readonly Response[];
  readonly kept: readonly Response[];
  readonly rejected: readonly Response[];
  readonly verificationOf: (response: Response) => Verification;
}

export interface CurateAnswersOptions extends SourceOptions {
  readonly evaluation: readonly EvaluationText[];
  /** Of `openVerifier`. */
  readonly verifier: Verify | undefined;
}

/**
 * The answers that arms learn from: verified, chosen among by the arm's policy, and without those that recite an evaluation question or say what an
 * earlier answer to their question says. Arms that take another one's answers (`selected`) are made here; shuffled ones are not among them.
 */
export const curateAnswers = async (
  collected: ReadonlyMap<string, readonly Response[]>,
  options: CurateAnswersOptions,
): Promise<Map<string, readonly Response[]>> => {
  const { config } = options;
  const arms: CuratedArm[] = [];
  const verifiedOf = new Map<string, CuratedArm['verificationOf']>();
  for (const arm of config.arms) {
    const answers = collected.get(arm.name);
    if (answers === undefined) continue;
    if (arm.kind === 'strategy' || arm.kind === 'recorded') {
      const verificationOf = await verify(arm, answers, options);
      verifiedOf.set(arm.name, verificationOf);
      arms.push(chosen(arm.name, answers, config.collection.keep, verificationOf));
    } else arms.push(chosen(arm.name, answers, 'all', byTask));
  }
  for (const arm of config.arms) {
    const verificationOf = arm.kind === 'selected' ? verifiedOf.get(arm.of) : undefined;
    if (arm.kind === 'selected' && verificationOf !== undefined)
      arms.push(chosen(arm.name, collected.get(arm.of) ?? [], arm.keep, verificationOf));
  }
  const { matching: _, ...settings } = config.curation;
  const rows = arms.flatMap(({ name, kept }) => kept.map((response) => rowOf(name, response)));
  const curation = curate(rows, options.evaluation, settings, ({ group }) => group);
  await record(arms, curation, rows, options);
  return new Map(arms.map((arm) => [arm.name, learntFrom(arm, curation)]));
};

const learntFrom = ({ name, kept }: CuratedArm, { dropped }: Curation): readonly Response[] =>
  kept.filter((response) => !dropped.has(rowOf(name, response).id));

const byTask = verifyByTask('strict');

const rowOf = (arm: string, { exampleId, sampleIndex, text }: Response) => ({
  id: `${arm}/${exampleId}/${sampleIndex}`,
  group: `${arm}/${exampleId}`,
  question: '',
  answer: text,
});

const chosen = (
  name: string,
  answers: readonly Response[],
  policy: KeepPolicy,
  verificationOf: CuratedArm['verificationOf'],
): CuratedArm => ({ name, answers, verificationOf, ...selectResponses(answers, policy, verificationOf) });

const verify = async (
  arm: AnsweredArm,
  answers: readonly Response[],
  options: CurateAnswersOptions,
): Promise<CuratedArm['verificationOf']> => {
  const { verify: by } = options.config.collection;
  if (by.by === 'judge') {
    const verified = await judgeAnswers(arm, answers, by, options);
    return ({ requestKey }) => verified.get(requestKey) ?? { isRight: false, score: 0 };
  }
  const exampleOf = new Map(options.examples.map((example) => [example.id, example]));
  const own = options.verifier ?? byTask;
  const verified = new Map<string, Verification>();
  for (const answer of answers) {
    const example = exampleOf.get(answer.exampleId);
    if (example === undefined) throw new InternalError(`an answer to ${answer.exampleId}, which is not among the questions`);
    verified.set(answer.requestKey, await own(answer, example));
  }
  return ({ requestKey }) => verified.get(requestKey) ?? { isRight: false, score: 0 };
};

/**
 * What verifies answers without asking anybody; undefined where a judge does. Throws where a module, a schema or the judge cannot be had. A local judge is
 * loaded when it is needed: it would stand beside the teacher in memory.
 */
export const openVerifier = async ({ config, openJudge }: Pick<SourceOptions, 'config' | 'openJudge'>): Promise<Verify | undefined> => {
  const { verify: by } = config.collection;
  switch (by.by) {
    case 'task':
      return verifyByTask(by.rule);
    case 'schema':
      return verifyBySchema(by.file);
    case 'function': {
      const { call } = await verifyHookOf(by.module);
      return verifyByFunction((answer: string, example: Example) => call(answer, example), `collection.verify: ${by.module}`);
    }
    case 'judge':
      if (by.teacher.kind !== 'local') await openJudge();
      return undefined;
  }
};

/** Lists what is not learnt from with its reason, and counts what became of each arm's answers. */
const record = async (
  arms: readonly CuratedArm[],
  curation: Curation,
  rows: Parameters<typeof recordCuration>[0]['rows'],
  { config, run, evaluation, surroundings }: CurateAnswersOptions,
): Promise<void> => {
  const { matching: _, ...settings } = config.curation;
  const { keep, verify: by } = config.collection;
  const stage = stageNames.curate('answers');
  const left = arms.flatMap(({ name, rejected, verificationOf }) =>
    rejected.map((response) => ({
      arm: name,
      exampleId: response.exampleId,
      sampleIndex: response.sampleIndex,
      requestKey: response.requestKey,
      reason: response.reason,
      ...(Number.isFinite(verificationOf(response).score) && { score: verificationOf(response).score }),
    })),
  );
  const key = {
    settings,
    keep,
    verify: JSON.stringify(by),
    evaluation: hashOf(evaluation.map((item) => ({ ...item }))),
    rows: hashOf(rows.map(({ id, answer }) => [id, answer])),
    left: hashOf(left.map((item) => JSON.stringify(item))),
  };
  await runStage(run, { name: stage, key }, async () => {
    const where = { folder: run.paths.curation, prefix: 'answer-' };
    const { files, notes } = await recordCuration({ curation, settings, rows, what: 'answers', ...where });
    for (const note of notes) {
      surroundings.say?.(note);
      await run.warn(stage, note);
    }
    const leftFiles = await writeLines(join(run.paths.curation, 'left-out.jsonl'), left);
    const yields = arms.map((arm) => yieldFacts(arm, curation, config.arms));
    for (const { text } of yields) if (text !== '') surroundings.say?.(text);
    const keys = arms.map((arm) => [arm.name, learntFrom(arm, curation).map(({ requestKey }) => requestKey)] as const);
    return { files: [...files, ...leftFiles], facts: { arms: yields.map(({ facts }) => facts), keys: Object.fromEntries(keys) } };
  });
};

const yieldFacts = (arm: CuratedArm, curation: Curation, arms: readonly ArmConfig[]): { readonly facts: Json; readonly text: string } => {
  const { name, answers, kept, rejected, verificationOf } = arm;
  const { overlaps, duplicates, dropped } = curation;
  const { source, ...counts } = yieldOf(name, answers, learntFrom(arm, curation), verificationOf);
  const ids = new Set(kept.map((response) => rowOf(name, response).id));
  const reasons = countBy(rejected.map(({ reason = 'rejected' }) => reason));
  const isOf = ({ id }: { readonly id: string }): boolean => ids.has(id) && dropped.has(id);
  const facts = {
    source,
    ...counts,
    rejected: reasons,
    overlapCount: overlaps.filter(isOf).length,
    duplicateCount: duplicates.filter(isOf).length,
  };
  const isChosen = rejected.length > 0 || arms.some((arm) => arm.name === name && arm.kind === 'selected');
  const text = `${name}: ${counts.rightCount} of ${counts.answerCount} answers are right; ${counts.keptCount} are learnt from, to ${counts.questionCount} questions.`;
  return { facts, text: isChosen ? text : '' };
};
