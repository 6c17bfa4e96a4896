import { sha256 } from '../base/folders.ts';
import type { ArmConfig } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import type { ArmId, Subject } from '../run-folder/arm.ts';
import { namePart } from '../run-folder/arm.ts';
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
  readonly folder: string;
}

/** What a run's folder is begun with: the config, what it is measured by, and the stages that it asks for. */
export const runBeginning = ({ config, configText, resolvedConfig }: RunOptions, task: Task, { versions }: Surroundings): RunBeginning => ({
  configText,
  resolvedConfig,
  // A budget that was reached is raised, a limit lowered, a folder moved: no answer depends on them.
  mayAppear: ['curation', 'collection.keep', 'collection.verify'],
  mayChange: [
    'output',
    ...['budget', 'limits', 'prices', 'batch', 'retryFailed', 'verify.prices'].map((name) => `collection.${name}`),
    ...['teacher', 'collection.verify.teacher'].flatMap((teacher) =>
      ['concurrency', 'timeoutSeconds', 'apiKeyVariable'].map((name) => `${teacher}.${name}`),
    ),
  ],
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
    stageNames.curate('questions'),
    ...config.arms.flatMap((arm) => (arm.kind === 'selected' ? [] : [stageNames.collect(arm.name)])),
    ...config.arms.flatMap((arm) => (isJudged(arm, config) ? [stageNames.judge(arm.name)] : [])),
    stageNames.curate('answers'),
    ...(config.search === undefined ? [] : ['choose']),
    ...config.arms.flatMap((arm) => config.seeds.map((seed) => stageNames.train(armIdOf(arm, config, seed)))),
    ...subjectsOf(config).flatMap((subject) => [
      stageNames.evaluate(subject),
      ...(config.evaluation.likelihood && subject.kind !== 'teacher' ? [stageNames.likelihood(subject)] : []),
    ]),
    stageNames.report,
  ],
});

const isJudged = ({ kind }: ArmConfig, { collection }: RunConfig): boolean =>
  collection.verify.by === 'judge' && (kind === 'strategy' || kind === 'recorded');

/** The student that learns from an arm's answers under a seed. */
export const armIdOf = ({ name }: ArmConfig, { student, training }: RunConfig, seed: number): ArmId => ({
  source: name,
  method: training.loss.name === 'distillation' ? `${student.parameters.kind}-distillation` : student.parameters.kind,
  student: namePart(student.name),
  seed,
});

/** Who answers the test questions: the untouched student, the teacher, and every trained student. */
export const subjectsOf = (config: RunConfig): Subject[] => [
  ...(config.evaluation.untouched ? [{ kind: 'untouched', student: namePart(config.student.name) } as const] : []),
  ...(config.evaluation.teacher && config.teacher !== undefined && config.teacher.kind !== 'recorded'
    ? [{ kind: 'teacher' } as const]
    : []),
  ...config.arms.flatMap((arm) => config.seeds.map((seed) => ({ kind: 'arm', arm: armIdOf(arm, config, seed) }) as const)),
];
