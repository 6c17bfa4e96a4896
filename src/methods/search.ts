import { join } from 'node:path';
import type { ArmConfig } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import type { TokenRow } from '../engines/engine.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import type { ArmRows } from './arm-rows.ts';
import { fineTune, removeCheckpoints } from './fine-tune.ts';
import type { RunTeacher } from './local-teacher.ts';
import { type Student, withStudents } from './student.ts';
import type { Surroundings } from './surroundings.ts';
import { armTeacherLogits } from './train-arm.ts';

/** A candidate and the loss that it was judged by: nats per token of development questions' gold solutions. */
export interface Candidate {
  readonly learningRate: number;
  readonly epochs: number;
  readonly developmentLoss: number;
}

export interface SearchOptions {
  readonly config: RunConfig;
  readonly run: RunFolder;
  /** Candidates are tried on as many at once. */
  readonly students: readonly Student[];
  /** Of every arm, by its name. */
  readonly rows: ReadonlyMap<string, ArmRows>;
  readonly developmentRows: readonly TokenRow[];
  readonly teacher: RunTeacher;
  readonly task: Task;
  readonly surroundings: Surroundings;
}

/**
 * Chooses learning rate and epochs on a slice of the training split, once for all arms, and freezes them in the run's record before the test
 * split is opened. Without `search` in the config nothing is chosen.
 */
export const chooseSettings = async (options: SearchOptions): Promise<RunConfig['training']> => {
  const { config, run, students, developmentRows, teacher, task, surroundings } = options;
  const { training, search, seeds } = config;
  if (search === undefined) return training;
  const arm = config.arms.find(({ name }) => name === search.arm) ?? (config.arms[0] as ArmConfig);
  const armRows = options.rows.get(arm.name) as ArmRows;
  const rows = armRows.rows.slice(0, search.rows).map(({ row }) => row);
  const grid = (search.learningRate ?? [training.learningRate]).flatMap((learningRate) =>
    (search.epochs ?? [training.epochs]).map((epochs) => ({ learningRate, epochs })),
  );
  const seed = seeds[0] ?? 0;
  const key = {
    base: students[0]?.baseHash ?? '',
    student: { ...config.student, model: '' },
    training,
    grid,
    seed,
    rows: hashOf([...rows, ...developmentRows].map(({ tokens, weights }) => [[...tokens], [...weights]])),
  };
  const stage = await runStage(run, { name: 'choose', key }, async () => {
    const losses = new Map<(typeof grid)[number], number>();
    await withStudents(students, grid, async (candidate, student) => {
      const { learningRate, epochs } = candidate;
      const name = `learning rate ${learningRate}, ${epochs} epochs`;
      const folder = join(run.path, 'search', `learning-rate-${learningRate}-epochs-${epochs}`);
      await student.engine.reset(seed);
      const { developmentLoss } = await fineTune({
        engine: student.engine,
        rows,
        developmentRows,
        settings: { ...training, learningRate, epochs, stepsPerEvaluation: Number.MAX_SAFE_INTEGER },
        seed,
        key: hashOf({ ...key, learningRate, epochs }),
        checkpoints: join(folder, 'checkpoints'),
        metrics: join(folder, 'metrics.jsonl'),
        ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
        ...(training.loss.name === 'distillation' && { teacherLogits: armTeacherLogits({ arm, rows: armRows, student, teacher, task }) }),
        onProgress: (progress) => surroundings.onProgress?.(`choose: ${name}`, { ...progress, note: `loss ${progress.loss.toFixed(3)}` }),
      });
      losses.set(candidate, developmentLoss ?? Number.POSITIVE_INFINITY);
    });
    const candidates: Candidate[] = grid.map((candidate) => ({
      ...candidate,
      developmentLoss: losses.get(candidate) ?? Number.POSITIVE_INFINITY,
    }));
    for (const { learningRate, epochs } of grid) {
      await removeCheckpoints(join(run.path, 'search', `learning-rate-${learningRate}-epochs-${epochs}`, 'checkpoints'));
    }
    const best = candidates.reduce((left, right) => (right.developmentLoss < left.developmentLoss ? right : left));
    return {
      files: [join(run.path, 'search')],
      facts: { candidates: candidates.map((candidate) => ({ ...candidate })), learningRate: best.learningRate, epochs: best.epochs },
    };
  });
  const learningRate = Number(stage.facts.learningRate);
  const epochs = Number(stage.facts.epochs);
  surroundings.say?.(
    `Chosen on ${developmentRows.length} development questions of the training split: learning rate ${learningRate}, ${epochs} epochs.`,
  );
  return { ...training, learningRate, epochs };
};
