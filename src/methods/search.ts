import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import type { RunConfig } from '../config/run-config.ts';
import type { TrainingConfig } from '../config/training-config.ts';
import type { TokenRow } from '../engines/engine.ts';
import { isNotFinite } from '../engines/not-finite.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { type ChooseFacts, runStage, type SearchCandidate } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import type { ArmRows } from './arm-rows.ts';
import { candidatesOf, type Settings, settingsName, settingsText, withSettings } from './candidates.ts';
import { isChosenOnTest } from './departing.ts';
import { fineTune, removeCheckpoints } from './fine-tune.ts';
import type { RunTeacher } from './local-teacher.ts';
import { type Choice, choicesOf, type Method } from './run-plan.ts';
import { type Student, withStudents } from './student.ts';
import type { Surroundings } from './surroundings.ts';
import { armTeacherLogits } from './train-arm.ts';

export interface SearchOptions {
  readonly config: RunConfig;
  readonly method: Method;
  readonly run: RunFolder;
  /** Candidates are tried on as many at once. */
  readonly students: readonly Student[];
  /** Of every arm, by its name. */
  readonly rows: ReadonlyMap<string, ArmRows>;
  /** What candidates are judged by: rows of development questions with their own solutions. */
  readonly judgingRows: readonly TokenRow[];
  readonly teacher: RunTeacher;
  readonly task: Task;
  readonly surroundings: Surroundings;
}

/**
 * Chooses what a method's search lists, once for all its arms or for each by itself, and freezes it in the run's record before the test
 * split is opened. Every arm has the same candidates: what is compared was searched with the same budget. Without `search` in the config
 * nothing is chosen. The training of each arm, by its name.
 */
export const chooseSettings = async (options: SearchOptions): Promise<ReadonlyMap<string, TrainingConfig>> => {
  const { method, config } = options;
  const candidates = method.search === undefined ? [] : candidatesOf(method.search, method.training, config.seeds[0] ?? 0);
  const [only] = candidates;
  const training = only !== undefined && candidates.length === 1 ? withSettings(method.training, only) : method.training;
  const chosen = new Map(method.arms.map(({ name }) => [name, training]));
  for (const choice of choicesOf(method, config)) {
    const settings = await choose(choice, options);
    for (const { name } of choice.chosenFor) chosen.set(name, withSettings(method.training, settings));
  }
  return chosen;
};

const choose = async ({ stage: name, arm }: Choice, options: SearchOptions): Promise<Settings> => {
  const { config, method, run, students, judgingRows, surroundings } = options;
  const { training, search = {} } = method;
  const armRows = options.rows.get(arm.name) as ArmRows;
  const rows = armRows.rows.slice(0, search.rows).map(({ row }) => row);
  const seed = config.seeds[0] ?? 0;
  const grid = candidatesOf(search, training, seed);
  const onTest = isChosenOnTest(config);
  const key = {
    base: students[0]?.baseHash ?? '',
    student: { ...method.student, model: '' },
    training,
    grid: grid.map((settings) => ({ ...settings })),
    seed,
    rows: hashOf([...rows, ...judgingRows].map(({ tokens, weights }) => [[...tokens], [...weights]])),
  };
  const folder = join(run.path, 'search', ...name.split('--').slice(1));
  const stage = await runStage(run, { name, key }, async () => {
    const tried = new Map<Settings, SearchCandidate>();
    await withStudents(students, grid, async (settings, student) => {
      if (onTest) await run.openTest(`${name}: ${settingsText(settings)}`);
      const own = join(folder, settingsName(settings));
      const trial = { settings, rows, armRows, arm, student, folder: own, key: hashOf({ ...key, ...settings }), seed };
      tried.set(settings, await tryCandidate(trial, options));
    });
    const candidates = grid.flatMap((settings) => tried.get(settings) ?? []);
    for (const settings of grid) await removeCheckpoints(join(folder, settingsName(settings), 'checkpoints'));
    const { learningRate, epochs, alpha, temperature } = bestOf(candidates, name);
    const facts: ChooseFacts = {
      candidates,
      ...{ learningRate, epochs, ...(alpha !== undefined && { alpha }), ...(temperature !== undefined && { temperature }) },
      ...{ arm: arm.name, rowCount: rows.length, judgingRowCount: judgingRows.length, judgedOn: onTest ? 'test' : 'development' },
    };
    return { files: [folder], facts: { ...facts, candidates: candidates.map((candidate) => ({ ...candidate })) } };
  });
  const settings = settingsSchema.parse(stage.facts);
  const questions = onTest ? 'TEST questions' : 'development questions of the training split';
  surroundings.say?.(`${name}: chosen on ${judgingRows.length} ${questions}: ${settingsText(settings)}.`);
  return settings;
};

interface Trial {
  readonly settings: Settings;
  readonly arm: Choice['arm'];
  readonly armRows: ArmRows;
  readonly rows: readonly TokenRow[];
  readonly student: Student;
  readonly folder: string;
  readonly key: string;
  readonly seed: number;
}

/** Trains one candidate. One whose numbers run away is lost, with its reason, and the search goes on. */
const tryCandidate = async (trial: Trial, options: SearchOptions): Promise<SearchCandidate> => {
  const { settings, arm, armRows, rows, student, folder, key, seed } = trial;
  const { method, judgingRows, teacher, task, surroundings } = options;
  const training = withSettings(method.training, settings);
  await student.engine.reset(seed);
  try {
    const { developmentLoss = Number.NaN, ...counts } = await fineTune({
      engine: student.engine,
      rows,
      developmentRows: judgingRows,
      // Where the last weights count, those on the way need not be weighed.
      settings: training.checkpoint === 'best' ? training : { ...training, stepsPerEvaluation: Number.MAX_SAFE_INTEGER },
      seed,
      key,
      checkpoints: join(folder, 'checkpoints'),
      metrics: join(folder, 'metrics.jsonl'),
      ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
      ...(training.loss.name === 'distillation' && { teacherLogits: armTeacherLogits({ arm, rows: armRows, student, teacher, task }) }),
      onProgress: (progress) =>
        surroundings.onProgress?.(`choose: ${settingsText(settings)}`, { ...progress, note: `loss ${progress.loss.toFixed(3)}` }),
    });
    const { stepCount, trainedTokenCount } = counts;
    if (!Number.isFinite(developmentLoss))
      return { ...settings, developmentLoss: null, lost: `its loss on the judging questions is ${developmentLoss}` };
    return { ...settings, developmentLoss, stepCount, trainedTokenCount };
  } catch (error) {
    if (!isNotFinite(error)) throw error;
    return { ...settings, developmentLoss: null, lost: error.message };
  }
};

/** The candidate with the least loss; of equals the first. */
const bestOf = (candidates: readonly SearchCandidate[], name: string): SearchCandidate => {
  const [best] = candidates
    .filter(({ developmentLoss }) => developmentLoss !== null)
    .toSorted((left, right) => (left.developmentLoss ?? 0) - (right.developmentLoss ?? 0));
  if (best !== undefined) return best;
  const reasons = candidates.map((candidate) => `  ${settingsText(candidate)}: ${candidate.lost ?? ''}`);
  throw new UserError(`${name}: every candidate of the search is lost. Give it lower learning rates.\n${reasons.join('\n')}`);
};

const settingsSchema = z.object({
  learningRate: z.number(),
  epochs: z.number(),
  alpha: z.number().exactOptional(),
  temperature: z.number().exactOptional(),
});
