import { sha256 } from '../base/folders.ts';
import { type ArmConfig, primingOf } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { candidateCountOf, type SearchConfig } from '../config/search-config.ts';
import type { StudentConfig } from '../config/student-config.ts';
import type { TrainingConfig } from '../config/training-config.ts';
import type { ArmId, Subject } from '../run-folder/arm.ts';
import { namePart, variantName } from '../run-folder/arm.ts';
import { thisMachine } from '../run-folder/machine.ts';
import type { Json } from '../run-folder/manifest.ts';
import type { RunBeginning } from '../run-folder/run-folder.ts';
import { stageNames } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import type { Surroundings } from './surroundings.ts';

export interface RunOptions {
  readonly config: RunConfig;
  /** The config as the user wrote it, for the record. */
  readonly configText: string;
  /** The same with every default filled in and paths as written: decides whether the folder holds this very run. */
  readonly resolvedConfig: Json;
  /** The folder that the config's paths start from. */
  readonly configFolder?: string;
  readonly folder: string;
}

/** What a run's folder is begun with: the config, what it is measured by, and the stages that it asks for. */
export const runBeginning = (
  { config, configText, resolvedConfig, configFolder }: RunOptions,
  task: Task,
  { versions }: Surroundings,
): RunBeginning => ({
  configText,
  resolvedConfig,
  ...(configFolder !== undefined && { configFolder }),
  // Settings that earlier runs could not name. Those computed as the default says, so that another value is another run.
  mayAppear: [
    ...['curation', 'collection.keep', 'collection.verify'],
    ...(config.engine.inferencePrecision === 'float32' ? ['engine.inferencePrecision'] : []),
  ],
  // A budget that was reached is raised, a limit lowered, a folder moved, a row beside the arms added: no answer depends on them.
  mayChange: [
    ...['output', 'engine.activations'],
    ...['budget', 'limits', 'prices', 'batch', 'retryFailed', 'verify.prices'].map((name) => `collection.${name}`),
    ...['teacher', 'collection.verify.teacher'].flatMap((teacher) =>
      ['concurrency', 'timeoutSeconds', 'apiKeyVariable'].map((name) => `${teacher}.${name}`),
    ),
    ...['untouched', 'teacher', 'primed', 'fewShots'].map((name) => `evaluation.${name}`),
  ],
  mayGrow: ['seeds'],
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
    ...(config.departures !== undefined && { departures: [...config.departures] }),
  },
  plannedStages: [
    stageNames.curate('questions'),
    ...config.arms.flatMap((arm) => (arm.kind === 'selected' ? [] : [stageNames.collect(arm.name)])),
    ...config.arms.flatMap((arm) => (isJudged(arm, config) ? [stageNames.judge(arm.name)] : [])),
    stageNames.curate('answers'),
    ...methodsOf(config).flatMap((method) => choicesOf(method, config).map(({ stage }) => stage)),
    ...studentsOf(config).map(({ id }) => stageNames.train(id)),
    ...subjectsOf(config).flatMap((subject) => [
      stageNames.evaluate(subject),
      ...(config.evaluation.likelihood && hasLikelihood(subject) ? [stageNames.likelihood(subject)] : []),
    ]),
    stageNames.report,
  ],
});

const isJudged = ({ kind }: ArmConfig, { collection }: RunConfig): boolean =>
  collection.verify.by === 'judge' && (kind === 'strategy' || kind === 'recorded');

/** A way in which every arm's student is trained. */
export interface Method {
  readonly name: string;
  readonly student: StudentConfig;
  readonly training: TrainingConfig;
  readonly search: SearchConfig | undefined;
  readonly arms: readonly ArmConfig[];
}

/** The methods of a run: those of its config, or the one that `student` and `training` describe. */
export const methodsOf = ({ methods, student, training, search, arms }: RunConfig): Method[] => {
  if (methods === undefined) {
    const name = training.loss.name === 'distillation' ? `${student.parameters.kind}-distillation` : student.parameters.kind;
    return [{ name, student, training, search, arms }];
  }
  return methods.map(({ name, parameters, learningRate, epochs, loss, search: lists, arms: names }) => ({
    name,
    student: { ...student, parameters: parameters ?? student.parameters },
    training: {
      ...training,
      ...(learningRate !== undefined && { learningRate }),
      ...(epochs !== undefined && { epochs }),
      ...(loss !== undefined && { loss }),
    },
    search: search && { ...search, ...lists },
    arms: names === undefined ? arms : arms.filter((arm) => names.includes(arm.name)),
  }));
};

/** A choice of settings: the stage that makes it, the arm whose answers it is made on, and the arms that it is for. */
export interface Choice {
  readonly stage: string;
  readonly arm: ArmConfig;
  readonly chosenFor: readonly ArmConfig[];
}

/** One choice for all arms of a method, or one for each; none where there is nothing to choose among. */
export const choicesOf = ({ name, search, training, arms }: Method, { methods = [] }: RunConfig): Choice[] => {
  if (search === undefined || candidateCountOf(search, training.loss.name) === 1) return [];
  const methodName = methods.length > 1 ? [name] : [];
  if (search.perArm === true) return arms.map((arm) => ({ stage: stageNames.choose(...methodName, arm.name), arm, chosenFor: [arm] }));
  const arm = arms.find((candidate) => candidate.name === search.arm) ?? arms[0];
  return arm === undefined ? [] : [{ stage: stageNames.choose(...methodName), arm, chosenFor: arms }];
};

/** The students of a run: each arm's, by method and seed. */
export const studentsOf = (config: RunConfig): { readonly method: Method; readonly arm: ArmConfig; readonly id: ArmId }[] =>
  methodsOf(config).flatMap((method) =>
    method.arms.flatMap((arm) =>
      config.seeds.map((seed) => ({
        ...{ method, arm },
        id: { source: arm.name, method: method.name, student: namePart(config.student.name), seed },
      })),
    ),
  );

/** Who answers the test questions: the untouched student, asked as the arms are and otherwise, the teacher, and every trained student. */
export const subjectsOf = (config: RunConfig): Subject[] => {
  const { untouched, primed, fewShots, teacher } = config.evaluation;
  const student = namePart(config.student.name);
  const variants = [
    ...(fewShots.examples > 0 ? [variantName({ kind: 'shots', count: fewShots.examples })] : []),
    // A selected arm's priming is that of the arm it chooses of.
    ...(primed ? config.arms.filter((arm) => arm.kind !== 'selected' && primingOf(arm)?.seesSolution === false) : []).map(({ name }) =>
      variantName({ kind: 'primed', source: name }),
    ),
  ];
  return [
    ...(untouched ? [{ kind: 'untouched', student } as const] : []),
    ...variants.map((variant) => ({ kind: 'untouched', student, variant }) as const),
    ...(teacher && config.teacher !== undefined && config.teacher.kind !== 'recorded' ? [{ kind: 'teacher' } as const] : []),
    ...studentsOf(config).map(({ id }) => ({ kind: 'arm', arm: id }) as const),
  ];
};

/** Gold solutions are weighed as the arms' students are asked: other prompts, and a teacher that gives text alone, have no such number. */
export const hasLikelihood = (subject: Subject): boolean =>
  subject.kind === 'arm' || (subject.kind === 'untouched' && subject.variant === undefined);
