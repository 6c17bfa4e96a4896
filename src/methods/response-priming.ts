import { availableParallelism } from 'node:os';
import { lockFolder } from '../base/folder-lock.ts';
import { ownerOnlyFolder } from '../base/folders.ts';
import { summariseRun } from '../evaluation/summarise-run.ts';
import type { RunSummary } from '../evaluation/summary.ts';
import { writeReport } from '../report/write-report.ts';
import type { Response } from '../responses/response.ts';
import type { Subject } from '../run-folder/arm.ts';
import { createRun } from '../run-folder/run-folder.ts';
import { loadModelText } from '../text/model-text.ts';
import { type ArmRows, armRows, developmentRowsOf } from './arm-rows.ts';
import { type CurateAnswersOptions, curateAnswers, openVerifier } from './curate-answers.ts';
import { curateQuestionsOfRun } from './curate-questions.ts';
import { isChosenOnTest, textOptionsOf, warnOfDepartures } from './departing.ts';
import { evaluateSubject } from './evaluate-subject.ts';
import { redactHookOf } from './hooks.ts';
import { runJudge, runTeacher } from './local-teacher.ts';
import { questionsOf } from './questions.ts';
import { methodsOf, type RunOptions, runBeginning, studentsOf, subjectsOf } from './run-plan.ts';
import { writeRunProvenance } from './run-provenance.ts';
import { chooseSettings } from './search.ts';
import { collectSource, submitBatches } from './sources.ts';
import { studentPool, withStudents } from './student.ts';
import type { Surroundings } from './surroundings.ts';
import { trainArm } from './train-arm.ts';

export type { RunOptions } from './run-plan.ts';

/**
 * The whole of response priming (arXiv 2412.17846), made sound: the teacher answers the training questions under each priming; one student
 * per source of answers and seed is fine-tuned on question and answer, never seeing the priming; all are measured on held-out questions
 * beside the untouched student and the teacher. Arms are trained on the same questions and differ in nothing but their answers. Killed at
 * any point and started again, it goes on where it was.
 */
export const runResponsePriming = async (options: RunOptions, surroundings: Surroundings): Promise<RunSummary> => {
  const { config, folder } = options;
  const questions = await questionsOf(config.task, surroundings);
  const { task } = questions;
  const redact = await redactHookOf(config);
  const lock = await lockFolder(folder, ownerOnlyFolder);
  const teacher = runTeacher(config, surroundings);
  const judge = runJudge(config, surroundings);
  try {
    const run = await createRun(folder, runBeginning(options, task, surroundings));
    await warnOfDepartures(config, run, surroundings);

    // 1. Leave out the questions that the evaluation asks for, then prime the teacher and collect its answers; gold, shuffled and recorded
    // ones beside them.
    const { train, evaluation, left } = await curateQuestionsOfRun(questions, { run, config, surroundings });
    const asking = { openTeacher: teacher.open, teacherRevision: teacher.revision, openJudge: judge.open, redact };
    const collected = await collectArms({ config, run, task, examples: train, evaluation, ...asking, surroundings });
    // Their memory is the students' until the teacher is measured itself.
    await teacher.release();
    await judge.release();

    // 2. Answers become rows of tokens: the student sees the question, never the priming.
    const modelPath = await surroundings.resolveModel(config.student.model);
    const textOptions = textOptionsOf(config);
    const shared = { examples: train, task, text: await loadModelText(modelPath, textOptions), config, run, surroundings };
    const rows = await armRows(collected, shared);
    const developmentRows = developmentRowsOf(left.development, shared);

    const students = studentPool(
      { engine: config.engine, modelPath, seed: config.seeds[0] ?? 0, text: textOptions },
      availableParallelism(),
    );
    const everybody = { run, teacher, task, config, surroundings };
    try {
      for (const method of methodsOf(config)) {
        const open = await students.of(method.student);

        // 3. What is chosen is chosen on a slice of the training split, before the test split is opened.
        const judgingRows = isChosenOnTest(config) ? developmentRowsOf(await left.openTest(), shared) : developmentRows;
        const trainings = await chooseSettings({ ...everybody, method, students: open, rows, judgingRows });

        // 4. One student per source of answers, method and seed.
        const own = studentsOf(config).filter(({ id }) => id.method === method.name);
        await withStudents(open, own, async ({ arm, id }, student) => {
          const training = trainings.get(arm.name) ?? method.training;
          await trainArm({ ...everybody, arm, id, rows: rows.get(arm.name) as ArmRows, developmentRows, training, student });
        });
      }

      // 5. The test split is opened: every student, the untouched one and the teacher answer it.
      const test = await left.openTest();
      for (const [index, method] of methodsOf(config).entries()) {
        const isHere = (subject: Subject) => (subject.kind === 'arm' ? subject.arm.method === method.name : index === 0);
        await withStudents(await students.of(method.student), subjectsOf(config).filter(isHere), (subject, student) =>
          evaluateSubject({ ...everybody, redact, subject, train, test, student }),
        );
      }
    } finally {
      await students.release();
    }

    // 6. Everything that the report says is computed from the files.
    return (await writeReport(run, { task })).summary;
  } finally {
    await teacher.release();
    await judge.release();
    await lock.release();
  }
};

/** The first step by itself, in the run's own folder: `runResponsePriming` goes on from there. */
export const collectForRun = async (options: RunOptions, surroundings: Surroundings): Promise<RunSummary> => {
  const { config, folder } = options;
  const questions = await questionsOf(config.task, surroundings);
  const { task } = questions;
  const redact = await redactHookOf(config);
  const lock = await lockFolder(folder, ownerOnlyFolder);
  const teacher = runTeacher(config, surroundings);
  const judge = runJudge(config, surroundings);
  try {
    const run = await createRun(folder, runBeginning(options, task, surroundings));
    const { train, evaluation } = await curateQuestionsOfRun(questions, { run, config, surroundings });
    const asking = { openTeacher: teacher.open, teacherRevision: teacher.revision, openJudge: judge.open, redact };
    await collectArms({ config, run, task, examples: train, evaluation, ...asking, surroundings });
    return await summariseRun(run);
  } finally {
    await teacher.release();
    await judge.release();
    await lock.release();
  }
};

const collectArms = async (options: Omit<CurateAnswersOptions, 'verifier'>): Promise<Map<string, readonly Response[]>> => {
  const collected = new Map<string, readonly Response[]>();
  // What cannot verify is found out before answers are paid for.
  const verifier = await openVerifier(options);
  await submitBatches(options.config.arms, options);
  const own = options.config.arms.filter((arm) => arm.kind !== 'selected' && arm.kind !== 'shuffled');
  for (const arm of own) collected.set(arm.name, await collectSource(arm, options));
  const curated = await curateAnswers(collected, { ...options, verifier });
  const shuffled = options.config.arms.filter((arm) => arm.kind === 'shuffled');
  for (const arm of shuffled) curated.set(arm.name, await collectSource(arm, options, curated));
  await writeRunProvenance(options.run);
  // In the order of the config.
  return new Map(options.config.arms.map(({ name }) => [name, curated.get(name) ?? []]));
};
