import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/folders.ts';
import { type ArmConfig, primingOf } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { primedMessages, studentMessages } from '../priming/primed-messages.ts';
import type { ArmId } from '../run-folder/arm.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import { forgottenMark } from '../run-folder/forgotten.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames, type TrainFacts } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import type { TrainingRow } from '../text/training-row.ts';
import type { ArmRows } from './arm-rows.ts';
import { fineTune, removeCheckpoints } from './fine-tune.ts';
import { type RunTeacher, teacherLogitsOf } from './local-teacher.ts';
import { type Student, templateRecord, writeStudent } from './student.ts';
import type { Surroundings } from './surroundings.ts';

export interface TrainArmOptions {
  readonly arm: ArmConfig;
  readonly id: ArmId;
  readonly rows: ArmRows;
  readonly developmentRows: readonly TrainingRow[];
  readonly training: RunConfig['training'];
  readonly run: RunFolder;
  readonly student: Student;
  readonly teacher: RunTeacher;
  readonly task: Task;
  readonly config: RunConfig;
  readonly surroundings: Surroundings;
}

/** Trains one student on one arm's rows, unless that is done, and writes its adapter or model into the run. */
export const trainArm = async (options: TrainArmOptions): Promise<void> => {
  const { arm, id, rows, developmentRows, training, run, student, surroundings } = options;
  const paths = run.paths.student(id);
  const key = {
    base: student.baseHash,
    student: { ...student.config, model: '' },
    training,
    seed: id.seed,
    rows: hashOf(rows.rows.map(({ row }) => [[...row.tokens], [...row.weights]])),
    teacher: training.loss.name === 'distillation' ? JSON.stringify(options.config.teacher) : '',
  };
  await runStage(run, { name: stageNames.train(id), key }, async ({ record, isSameKey }) => {
    // Answers of other weights, which this training replaces: they are not mixed with the new student's.
    if (record?.status !== 'done' || !isSameKey) await removeAnswers(id, run);
    await student.engine.reset(id.seed);
    const result = await fineTune({
      engine: student.engine,
      rows: rows.rows.map(({ row }) => row),
      developmentRows,
      settings: training,
      seed: id.seed,
      key: hashOf(key),
      checkpoints: paths.checkpoints,
      metrics: paths.metrics,
      ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
      ...(training.loss.name === 'distillation' && { teacherLogits: armTeacherLogits(options) }),
      onProgress: (progress) =>
        surroundings.onProgress?.(`train ${arm.name}, seed ${id.seed}`, { ...progress, note: `loss ${progress.loss.toFixed(3)}` }),
    });
    await writeStudent(paths.adapter, student);
    await removeCheckpoints(paths.checkpoints);
    await writeFileAtomic(paths.rows, rowsText(rows));
    await rm(join(paths.folder, forgottenMark), { force: true });
    const facts: TrainFacts = {
      rowCount: rows.rows.length,
      droppedCount: rows.dropped.length,
      trainedTokenCount: result.trainedTokenCount,
      stepCount: result.stepCount,
      keptStep: result.keptStep,
    };
    const template = templateRecord(student.text.template);
    return {
      files: [paths.adapter, paths.metrics, paths.rows],
      facts: { ...facts, developmentLoss: result.developmentLoss ?? null, template },
    };
  });
};

const removeAnswers = async (id: ArmId, { paths }: RunFolder): Promise<void> => {
  const subject = { kind: 'arm', arm: id } as const;
  for (const file of [paths.answers(subject), paths.likelihoods(subject)]) await rm(file, { force: true });
};

/** What a student saw, for whoever must forget a question. */
const rowsText = ({ rows }: ArmRows): string =>
  rows
    .map(({ item: { response } }) => {
      const { exampleId, sampleIndex, requestKey, answerFrom } = response;
      return `${JSON.stringify({ exampleId, sampleIndex, requestKey, ...(answerFrom !== undefined && { answerFrom }) })}\n`;
    })
    .join('');

/**
 * A teacher's logits for the answer of a row: it reads what it read when it gave the answer, the priming too. Sources without a priming
 * (gold unless it names one, shuffled, recorded) stand under the unprimed question.
 */
export const armTeacherLogits =
  ({ arm, rows, student, teacher, task }: Pick<TrainArmOptions, 'arm' | 'rows' | 'student' | 'teacher' | 'task'>) =>
  async (rowIndex: number): Promise<Float32Array> => {
    const { item, row } = rows.rows[rowIndex] as (typeof rows.rows)[number];
    const priming = primingOf(arm);
    const messages =
      priming === undefined ? studentMessages(item.example, task.instruction) : primedMessages(priming, item.example, task.instruction);
    return teacherLogitsOf({
      teacher: await teacher.openLocal(),
      messages,
      answer: item.response.text,
      studentRow: row,
      studentVocabularySize: student.engine.information.vocabularySize,
      where: `arm ${arm.name}, ${item.example.id}`,
    });
  };
