import type { RunConfig } from '../config/run-config.ts';
import { type Curation, curate } from '../responses/curate.ts';
import type { EvaluationText } from '../responses/decontaminate.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import type { Example } from '../tasks/task.ts';
import { recordCuration } from './curation-files.ts';
import { leftQuestions } from './left-questions.ts';
import type { Questions } from './questions.ts';
import type { Surroundings } from './surroundings.ts';

export interface CuratedQuestions {
  /** What teachers are asked and students learn from. */
  readonly train: readonly Example[];
  /** What the students are measured on, to which no answer may come too near. */
  readonly evaluation: readonly EvaluationText[];
  readonly curation: Curation;
}

/**
 * The training questions without those that the settings leave out: nothing is paid for them, in no arm. The texts of the test questions are
 * compared here and looked at no further.
 */
export const curateQuestions = async (
  questions: Questions,
  { curation: settings }: Pick<RunConfig, 'curation'>,
): Promise<CuratedQuestions> => {
  const test = settings.decontamination.action === 'off' ? [] : await questions.openTest();
  const evaluation = [...test, ...questions.development].map(({ id, question }) => ({ id, question }));
  const curation = curate(textsOf(questions.train), evaluation, settings);
  return { train: questions.train.filter(({ id }) => !curation.dropped.has(id)), evaluation, curation };
};

/**
 * `curateQuestions` without the questions that were forgotten, with what was found in the run's folder, in its warnings and told. `left` are all
 * questions but these.
 */
export const curateQuestionsOfRun = async (
  all: Questions,
  { run, config, surroundings }: { readonly run: RunFolder; readonly config: RunConfig; readonly surroundings: Surroundings },
): Promise<CuratedQuestions & { readonly left: Questions }> => {
  const questions = await leftQuestions(all, run);
  const curated = await curateQuestions(questions, config);
  const { curation, evaluation } = curated;
  const { matching: _, ...settings } = config.curation;
  const stage = stageNames.curate('questions');
  const rows = textsOf(questions.train);
  const key = {
    settings,
    train: hashOf(rows.map(({ id, question }) => [id, question])),
    evaluation: hashOf(evaluation.map((item) => ({ ...item }))),
  };
  await runStage(run, { name: stage, key }, async () => {
    const where = { folder: run.paths.curation, prefix: 'question-' };
    const { files, notes } = await recordCuration({ curation, settings, rows, what: 'training questions', ...where });
    for (const note of notes) {
      surroundings.say?.(note);
      await run.warn(stage, note);
    }
    const { rowCount, overlaps, duplicates, dropped } = curation;
    const facts = { questionCount: rowCount, overlapCount: overlaps.length, duplicateCount: duplicates.length, droppedCount: dropped.size };
    return { files, facts };
  });
  return { ...curated, left: questions };
};

const textsOf = (examples: readonly Example[]) => examples.map(({ id, question }) => ({ id, question, answer: '' }));
