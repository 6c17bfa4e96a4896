import { availableParallelism } from 'node:os';
import { InternalError } from '../base/errors.ts';
import { lockFolder } from '../base/folder-lock.ts';
import { sha256 } from '../base/folders.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { engineAnswerer, teacherAnswerer } from '../evaluation/answerer.ts';
import { evaluate, evaluateLikelihood } from '../evaluation/evaluate.ts';
import { summariseRun } from '../evaluation/summarise-run.ts';
import type { RunSummary } from '../evaluation/summary.ts';
import { primedMessages, studentMessages } from '../priming/primed-messages.ts';
import type { PrimingStrategy } from '../priming/strategy.ts';
import { writeReport } from '../report/write-report.ts';
import type { Response } from '../responses/response.ts';
import type { ArmId, Subject } from '../run-folder/arm.ts';
import { namePart, subjectName } from '../run-folder/arm.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import { thisMachine } from '../run-folder/machine.ts';
import type { Json } from '../run-folder/manifest.ts';
import { createRun, type RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames, type TrainFacts } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import { type TrainingRow, trainingRow } from '../text/training-row.ts';
import { type TrainingRows, trainingRows } from '../text/training-rows.ts';
import { fineTune, removeCheckpoints } from './fine-tune.ts';
import { type RunTeacher, runTeacher, teacherLogitsOf } from './local-teacher.ts';
import { questionsOf } from './questions.ts';
import { chooseSettings } from './search.ts';
import { collectSource, matchedByQuestion, type SourceOptions } from './sources.ts';
import { loadStudent, openStudents, releaseStudents, type Student, withStudents, writeStudent } from './student.ts';
import type { Surroundings } from './surroundings.ts';

export interface RunOptions {
  readonly config: RunConfig;
  /** The config as the user wrote it, for the record. */
  readonly configText: string;
  /** The same with every default filled in and paths as written: decides whether the folder holds this very run. */
  readonly resolvedConfig: Json;
  readonly folder: string;
}

/**
 * The whole of response priming (arXiv 2412.17846), made sound: the teacher answers the training questions under each priming; one student
 * per source of answers and seed is fine-tuned on question and answer, never seeing the priming; all are measured on held-out questions
 * beside the untouched student and the teacher. Arms are trained on the same questions and differ in nothing but their answers. Killed at
 * any point and started again, it goes on where it was.
 */
export const runResponsePriming = async (options: RunOptions, surroundings: Surroundings): Promise<RunSummary> => {
  const { config, folder } = options;
  const questions = await questionsOf(config.task);
  const { task } = questions;
  const lock = await lockFolder(folder);
  const teacher = runTeacher(config, surroundings);
  try {
    const run = await createRun(folder, { ...beginningOf(options, task, surroundings), resolvedConfig: options.resolvedConfig });

    // 1. Prime the teacher and collect its answers; gold, shuffled and recorded ones beside them.
    const collected = await collectArms({ config, run, task, examples: questions.train, openTeacher: teacher.open, surroundings });
    const answers = matchedByQuestion(collected);
    await reportMatching(run, collected, answers, surroundings);
    // Its memory is the students' until it is measured itself.
    await teacher.release();

    // 2. Answers become rows of tokens: the student sees the question, never the priming.
    const modelPath = await surroundings.resolveModel(config.student.model);
    const opening = { config: config.student, engine: config.engine, modelPath, seed: config.seeds[0] ?? 0 };
    const students = await openStudents(opening, availableParallelism());
    const student = students[0] as Student;
    try {
      const rowsOf = (name: string) => armRows(name, answers.get(name) ?? [], questions.train, task, student, config);
      const developmentRows = goldRows(questions.development, task, student, config);

      // 3. What is chosen is chosen on a slice of the training split, once for all arms.
      const searchArm = config.search?.arm ?? config.arms[0]?.name ?? '';
      const searchRows =
        config.search === undefined
          ? []
          : rowsOf(searchArm)
              .rows.slice(0, config.search.rows)
              .map(({ row }) => row);
      const training = await chooseSettings({ config, run, students, rows: searchRows, developmentRows, surroundings });

      // 4. One student per source of answers and seed.
      const arms = config.arms.flatMap((arm) => config.seeds.map((seed) => ({ arm, id: armIdOf(arm, config, seed) })));
      await withStudents(students, arms, ({ arm, id }, free) =>
        trainArm({ arm, id, rows: rowsOf(arm.name), developmentRows, training, run, student: free, teacher, task, config, surroundings }),
      );

      // 5. The test split is opened: every student, the untouched one and the teacher answer it.
      const test = await questions.openTest();
      await withStudents(students, subjectsOf(config), (subject, free) =>
        evaluateSubject({ subject, test, task, run, student: free, teacher, config, surroundings }),
      );
    } finally {
      await releaseStudents(students);
    }

    // 6. Everything that the report says is computed from the files.
    return (await writeReport(run, { task })).summary;
  } finally {
    await teacher.release();
    await lock.release();
  }
};

/** The first step by itself, in the run's own folder: `runResponsePriming` goes on from there. */
export const collectForRun = async (options: RunOptions, surroundings: Surroundings): Promise<RunSummary> => {
  const { config, folder } = options;
  const { task, train } = await questionsOf(config.task);
  const lock = await lockFolder(folder);
  const teacher = runTeacher(config, surroundings);
  try {
    const run = await createRun(folder, { ...beginningOf(options, task, surroundings), resolvedConfig: options.resolvedConfig });
    await collectArms({ config, run, task, examples: train, openTeacher: teacher.open, surroundings });
    return await summariseRun(run);
  } finally {
    await teacher.release();
    await lock.release();
  }
};

const collectArms = async (options: SourceOptions): Promise<Map<string, readonly Response[]>> => {
  const collected = new Map<string, readonly Response[]>();
  for (const arm of inOrderOfNeed(options.config.arms)) collected.set(arm.name, await collectSource(arm, options));
  return collected;
};

const beginningOf = ({ config, configText }: RunOptions, task: Task, { versions }: Surroundings) => ({
  configText,
  // A budget that was reached is raised, a limit lowered: no answer depends on them.
  mayChange: ['collection', 'teacher.concurrency', 'teacher.timeoutSeconds', 'teacher.apiKeyVariable'],
  versions,
  machine: thisMachine(),
  protocol: {
    task: task.name,
    instruction: sha256(task.instruction),
    primaryMeasure: config.comparison.measure,
    baseline: config.comparison.baseline,
    compared: [...config.comparison.compared],
    testQuestionCount: config.task.test.limit ?? 0,
    ...(config.note !== undefined && { note: config.note }),
  },
  plannedStages: [
    ...config.arms.map(({ name }) => stageNames.collect(name)),
    ...(config.search === undefined ? [] : ['choose']),
    ...config.arms.flatMap((arm) => config.seeds.map((seed) => stageNames.train(armIdOf(arm, config, seed)))),
    ...subjectsOf(config).map((subject) => stageNames.evaluate(subject)),
    stageNames.report,
  ],
});

/** A shuffled arm takes another one's answers, which must be there first. */
const inOrderOfNeed = (arms: readonly ArmConfig[]): ArmConfig[] => [
  ...arms.filter(({ kind }) => kind !== 'shuffled'),
  ...arms.filter(({ kind }) => kind === 'shuffled'),
];

const armIdOf = ({ name }: ArmConfig, { student, training }: RunConfig, seed: number): ArmId => ({
  source: name,
  method: training.loss.name === 'distillation' ? `${student.parameters.kind}-distillation` : student.parameters.kind,
  student: namePart(student.name),
  seed,
});

const subjectsOf = (config: RunConfig): Subject[] => [
  ...(config.evaluation.untouched ? [{ kind: 'untouched', student: namePart(config.student.name) } as const] : []),
  ...(config.evaluation.teacher && config.teacher !== undefined && config.teacher.kind !== 'recorded'
    ? [{ kind: 'teacher' } as const]
    : []),
  ...config.arms.flatMap((arm) => config.seeds.map((seed) => ({ kind: 'arm', arm: armIdOf(arm, config, seed) }) as const)),
];

const reportMatching = async (
  run: RunFolder,
  collected: ReadonlyMap<string, readonly Response[]>,
  matched: ReadonlyMap<string, readonly Response[]>,
  { say }: Surroundings,
): Promise<void> => {
  const [first] = matched.values();
  say?.(
    `${new Set(first?.map(({ exampleId }) => exampleId)).size} questions have a kept answer in every arm; all arms are trained on these.`,
  );
  for (const [name, responses] of collected) {
    const lost = responses.length - (matched.get(name)?.length ?? 0);
    if (lost > 0)
      await run.warn(stageNames.collect(name), `${lost} kept answers are not trained on, since another arm has none to their questions.`);
  }
};

interface RowItem {
  readonly example: Example;
  readonly response: Response;
}

const armRows = (
  name: string,
  responses: readonly Response[],
  examples: readonly Example[],
  task: Task,
  { text }: Student,
  { training }: RunConfig,
): TrainingRows<RowItem> => {
  const exampleOf = new Map(examples.map((example) => [example.id, example]));
  const items = responses.map((response) => {
    const example = exampleOf.get(response.exampleId);
    if (example === undefined) throw new InternalError(`an answer to ${response.exampleId}, which is not among the questions`);
    return { example, response };
  });
  const { maximumLength } = training;
  const makeRow = ({ example, response }: RowItem): TrainingRow | undefined =>
    trainingRow(text.template, text.tokenizer, studentMessages(example, task.instruction), response.text, {
      maximumLength,
      where: `arm ${name}, ${example.id}`,
    });
  return trainingRows(items, makeRow, { maximumLength, keepTruncated: false, what: `arm ${name}` });
};

/** Held-out rows of the training split, with the data set's own solutions: what settings are chosen by. */
const goldRows = (examples: readonly Example[], task: Task, { text }: Student, { training }: RunConfig): TrainingRow[] => {
  if (examples.length === 0) return [];
  const { maximumLength } = training;
  const makeRow = (example: Example): TrainingRow | undefined =>
    trainingRow(text.template, text.tokenizer, studentMessages(example, task.instruction), example.solution, {
      maximumLength,
      where: example.id,
    });
  return trainingRows(examples, makeRow, { maximumLength, keepTruncated: false, what: 'development questions' }).rows.map(({ row }) => row);
};

interface TrainArmOptions {
  readonly arm: ArmConfig;
  readonly id: ArmId;
  readonly rows: TrainingRows<RowItem>;
  readonly developmentRows: readonly TrainingRow[];
  readonly training: RunConfig['training'];
  readonly run: RunFolder;
  readonly student: Student;
  readonly teacher: RunTeacher;
  readonly task: Task;
  readonly config: RunConfig;
  readonly surroundings: Surroundings;
}

/** What the teacher read when it gave the arm's answers: sources without a priming stand under the unprimed question. */
const strategyOf = (arm: ArmConfig): PrimingStrategy | undefined => (arm.kind === 'strategy' ? arm.strategy : undefined);

const trainArm = async (options: TrainArmOptions): Promise<void> => {
  const { arm, id, rows, developmentRows, training, run, student, teacher, task, surroundings } = options;
  const paths = run.paths.student(id);
  const key = {
    base: student.baseHash,
    student: { ...student.config, model: '' },
    training,
    seed: id.seed,
    rows: hashOf(rows.rows.map(({ row }) => [[...row.tokens], [...row.weights]])),
    teacher: training.loss.name === 'distillation' ? JSON.stringify(options.config.teacher) : '',
  };
  const logitsOf = async (rowIndex: number): Promise<Float32Array> => {
    const { item, row } = rows.rows[rowIndex] as (typeof rows.rows)[number];
    const strategy = strategyOf(arm);
    const messages =
      strategy === undefined ? studentMessages(item.example, task.instruction) : primedMessages(strategy, item.example, task.instruction);
    return teacherLogitsOf({
      teacher: await teacher.openLocal(),
      messages,
      answer: item.response.text,
      studentRow: row,
      studentVocabularySize: student.engine.information.vocabularySize,
      where: `arm ${arm.name}, ${item.example.id}`,
    });
  };
  await runStage(run, { name: stageNames.train(id), key }, async () => {
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
      ...(training.loss.name === 'distillation' && { teacherLogits: logitsOf }),
      onProgress: (progress) =>
        surroundings.onProgress?.(`train ${arm.name}, seed ${id.seed}`, { ...progress, note: `loss ${progress.loss.toFixed(3)}` }),
    });
    await writeStudent(paths.adapter, student);
    await removeCheckpoints(paths.checkpoints);
    const facts: TrainFacts = {
      rowCount: rows.rows.length,
      droppedCount: rows.dropped.length,
      trainedTokenCount: result.trainedTokenCount,
      stepCount: result.stepCount,
    };
    return { files: [paths.adapter, paths.metrics], facts: { ...facts, developmentLoss: result.developmentLoss ?? null } };
  });
};

interface EvaluateSubjectOptions {
  readonly subject: Subject;
  readonly test: readonly Example[];
  readonly task: Task;
  readonly run: RunFolder;
  readonly student: Student;
  readonly teacher: RunTeacher;
  readonly config: RunConfig;
  readonly surroundings: Surroundings;
}

const evaluateSubject = async (options: EvaluateSubjectOptions): Promise<void> => {
  const { subject, test, task, run, student, teacher, config, surroundings } = options;
  const { maximumTokens, temperature, topP, batchSize, likelihood } = config.evaluation;
  const sampling = { maximumTokens, temperature, topP, seed: subject.kind === 'arm' ? subject.arm.seed : 0 };
  const { tokenizer, template, endTokens } = student.text;
  const manifest = await run.manifest();
  const weights =
    subject.kind === 'arm' ? manifest.stages[stageNames.train(subject.arm)]?.files.map((file) => manifest.files[file]?.sha256 ?? '') : [];
  const modelHash = hashOf({ base: student.baseHash, subject: subject.kind, weights: weights ?? [] });
  const questionsHash = hashOf(test.map(({ id, question, gold }) => [id, question, gold]));
  const key = {
    modelHash,
    sampling,
    questionsHash,
    instruction: task.instruction,
    teacher: subject.kind === 'teacher' ? JSON.stringify(config.teacher) : '',
  };
  const common = {
    task,
    examples: test,
    onProgress: (progress: { doneCount: number; totalCount: number; tokenCount: number }) =>
      surroundings.onProgress?.(`measure ${subjectName(subject)}`, progress),
    ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
  };
  const load = () =>
    subject.kind === 'arm' ? loadStudent(student, run.paths.student(subject.arm).adapter) : student.engine.reset(config.seeds[0] ?? 0);

  await runStage(run, { name: stageNames.evaluate(subject), key }, async () => {
    await run.openTest(subjectName(subject));
    const file = run.paths.answers(subject);
    if (subject.kind === 'teacher') {
      await evaluate({ ...common, file, answerer: teacherAnswerer(await teacher.open(), sampling) });
    } else {
      await load();
      const answerer = engineAnswerer({
        engine: student.engine,
        tokenizer,
        template,
        modelHash,
        endTokens,
        sampling,
        ...(batchSize !== undefined && { batchSize }),
      });
      await evaluate({ ...common, file, answerer });
    }
    return { files: [file], facts: {} };
  });
  if (!likelihood || subject.kind === 'teacher') return;
  await runStage(run, { name: stageNames.likelihood(subject), key }, async () => {
    await load();
    const file = run.paths.likelihoods(subject);
    await evaluateLikelihood({ ...common, engine: student.engine, tokenizer, template, modelHash, file });
    return { files: [file], facts: {} };
  });
};
