import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { lockFolder } from '../base/folder-lock.ts';
import { writeJsonAtomic } from '../base/folders.ts';
import type { TrainConfig } from '../config/train-config.ts';
import type { DataAccess } from '../data/open-data.ts';
import { profileStep, type StepProfile } from '../engines/step-profile.ts';
import { planTraining, type TrainingPlan } from '../engines/training-plan.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import { stepsOf } from '../text/batches.ts';
import { loadModelText, type ModelText } from '../text/model-text.ts';
import { rowOfLine, type TrainingLine } from '../text/training-lines.ts';
import { type TrainingRows, trainingRows } from '../text/training-rows.ts';
import { curatedLines, curationOf, type DataLines } from './curate-lines.ts';
import { type FineTuneResult, fineTune, removeCheckpoints, sizeOf } from './fine-tune.ts';
import { openStudent, studentSpecification, templateRecord, writeStudent } from './student.ts';
import type { Surroundings } from './surroundings.ts';
import { trainingLinesOf } from './training-data.ts';

export interface TrainReport extends FineTuneResult {
  /** The adapter's or model's folder. */
  readonly folder: string;
  readonly rowCount: number;
  readonly droppedCount: number;
  readonly truncatedCount: number;
  /** Whether it was trained before, and nothing was left to do. */
  readonly wasDone: boolean;
}

/**
 * `retort train`: fine-tunes a student on conversations or on prompts with completions, and writes what was learnt into `config.output`:
 * a PEFT adapter, or a model where every parameter was trained. Started again after a kill it continues; started again after its end it
 * says so and does nothing.
 */
export const train = async (config: TrainConfig, surroundings: Surroundings): Promise<TrainReport> => {
  const { data, training, seed, output } = config;
  const lock = await lockFolder(output);
  try {
    const modelPath = await surroundings.resolveModel(config.student.model);
    const student = await openStudent({ config: config.student, engine: config.engine, modelPath, seed });
    try {
      const lines = await readLines(config, surroundings);
      const rows = rowsOf(data.train, await curatedLines(lines, config, surroundings), config, student.text);
      const developmentRows = developmentRowsOf(lines, config, student.text);
      const key = hashOf({
        base: student.baseHash,
        student: { ...config.student, model: student.baseHash },
        training,
        seed,
        rows: contentOf(rows),
        ...(developmentRows !== undefined && { developmentRows: contentOf(developmentRows) }),
      });
      const counts = { rowCount: rows.rows.length, droppedCount: rows.dropped.length, truncatedCount: rows.truncatedCount };
      reportRows(rows, surroundings);
      const reportFile = join(output, reportName);
      const checkpoints = join(output, 'checkpoints');
      const done = await finishedReport(reportFile, key, config);
      if (done !== undefined) {
        await removeCheckpoints(checkpoints);
        return { ...done, ...counts, folder: output, wasDone: true };
      }
      await checkFree(output, checkpoints);
      await student.engine.reset(seed);
      const result = await fineTune({
        engine: student.engine,
        rows: rows.rows.map(({ row }) => row),
        ...(developmentRows !== undefined && { developmentRows: developmentRows.rows.map(({ row }) => row) }),
        settings: training,
        seed,
        key,
        checkpoints,
        metrics: join(output, 'metrics.jsonl'),
        ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
        onProgress: (progress) => surroundings.onProgress?.('train', { ...progress, note: `loss ${progress.loss.toFixed(3)}` }),
      });
      await writeStudent(output, student, config.format);
      await writeJsonAtomic(reportFile, {
        key,
        template: templateRecord(student.text.template),
        config,
        versions: surroundings.versions,
        ...result,
      });
      await removeCheckpoints(checkpoints);
      return { ...result, ...counts, folder: output, wasDone: false };
    } finally {
      await student.engine.release();
    }
  } finally {
    await lock.release();
  }
};

/** What a training would do, and what it would take. */
export interface PlannedTraining extends TrainingPlan {
  readonly rowCount: number;
  readonly droppedCount: number;
  readonly stepCount: number;
  /** Tokens to learn, of all steps together. */
  readonly weightedTokenCount: number;
}

/** `retort train --dry-run`: reads and checks all that a training would, and says what it would take. Nothing is trained or written. */
export const dryRunTraining = async (config: TrainConfig, surroundings: Surroundings): Promise<PlannedTraining> => {
  const { data, training, seed } = config;
  const modelPath = await surroundings.resolveModel(config.student.model);
  const lines = await readLines(config, surroundings);
  const { kept } = await curationOf(lines, config, surroundings);
  const text = await loadModelText(modelPath);
  const rows = rowsOf(data.train, kept, config, text);
  const developmentRows = developmentRowsOf(lines, config, text)?.rows ?? [];
  const plans = [
    ...stepsOf(
      rows.rows.map(({ row }) => sizeOf(row)),
      { seed, epochCount: training.epochs, rowsPerStep: training.rowsPerStep },
    ),
  ];
  const plan = await planTraining(
    studentSpecification({ config: config.student, engine: config.engine, modelPath, seed }),
    plans.map(({ rowIndices }) => rowIndices.flatMap((index) => rows.rows[index]?.row ?? [])),
    developmentRows.map(({ row }) => row),
    training.loss,
  );
  return {
    ...plan,
    rowCount: rows.rows.length,
    droppedCount: rows.dropped.length,
    stepCount: plans.length,
    weightedTokenCount: plans.reduce((sum, { weightedTokenCount }) => sum + weightedTokenCount, 0),
  };
};

/** `retort train --profile`: where the time of the training's largest micro-batch goes. Nothing is trained or written. */
export const profileTraining = async (config: TrainConfig, surroundings: Surroundings): Promise<StepProfile> => {
  const { data, training, seed } = config;
  if (config.engine.device !== 'cpu')
    throw new UserError(`Profiles are taken on the processor: device ${config.engine.device} has none yet.`);
  const modelPath = await surroundings.resolveModel(config.student.model);
  const { kept } = await curationOf(await readLines(config, surroundings), config, surroundings);
  const { rows } = rowsOf(data.train, kept, config, await loadModelText(modelPath));
  const specification = studentSpecification({ config: config.student, engine: config.engine, modelPath, seed });
  return profileStep(
    specification,
    rows.map(({ row }) => row),
    training.loss,
  );
};

const reportName = 'training.json';

/** All development lines, since none of them may be trained on; `data.limit` is for what is computed. */
const readLines = async (config: TrainConfig, access: DataAccess): Promise<DataLines> => ({
  train: await trainingLinesOf('train', config, access, config.data.limit),
  development: await trainingLinesOf('development', config, access),
});

const contentOf = ({ rows }: TrainingRows<unknown>) => rows.map(({ row }) => [[...row.tokens], [...row.weights]]);

/** Weights that no training of ours left there, the model to be trained among them, are never written over. */
const checkFree = async (output: string, checkpoints: string): Promise<void> => {
  if (existsSync(checkpoints)) return; // Begun here, and stopped while it wrote what it had learnt.
  const weights = (await readdir(output)).filter((name) => /\.(?:safetensors|gguf)$/.test(name));
  if (weights.length === 0) return;
  throw new UserError(
    `${output} holds weights (${weights.join(', ')}) that no training left there, and they would be written over. Give the output another folder.`,
  );
};

const rowsOf = (
  source: string,
  lines: readonly TrainingLine[],
  { data, training }: TrainConfig,
  text: ModelText,
): TrainingRows<TrainingLine> => {
  const { maximumLength } = training;
  const makeRow = (line: TrainingLine) => rowOfLine(text.template, text.tokenizer, line, { maximumLength, turns: data.turns });
  return trainingRows(lines, makeRow, { maximumLength, keepTruncated: false, what: source });
};

/** Those that are measured; undefined where the config names none. */
const developmentRowsOf = ({ development }: DataLines, config: TrainConfig, text: ModelText): TrainingRows<TrainingLine> | undefined => {
  const { data } = config;
  return data.development === undefined ? undefined : rowsOf(data.development, development.slice(0, data.limit), config, text);
};

const reportRows = ({ rows, dropped, rewrittenCount }: TrainingRows<unknown>, { say }: Surroundings): void => {
  const weighted = rows.reduce((sum, { row }) => sum + row.weightedTokenCount, 0);
  say?.(`${rows.length} rows, ${weighted} tokens to learn${dropped.length === 0 ? '' : `; ${dropped.length} rows left out as too long`}`);
  if (rewrittenCount > 0) {
    say?.(
      `${rewrittenCount} rows are rendered by the chat template otherwise than a prompt is: their answers were found by their place in the text`,
    );
  }
};

const finishedSchema = z.looseObject({
  key: z.string(),
  config: z.looseObject({ format: z.string() }),
  stepCount: z.number(),
  trainedTokenCount: z.number(),
  developmentLoss: z.number().optional(),
  keptStep: z.number().optional(),
});

/** The report of a finished training of this very key. Another one's is an error: its weights would be overwritten. */
const finishedReport = async (file: string, key: string, { format, student }: TrainConfig): Promise<FineTuneResult | undefined> => {
  if (!existsSync(file)) return undefined;
  const value: unknown = await readFile(file, 'utf8')
    .then((text): unknown => JSON.parse(text))
    .catch(() => undefined);
  const found = finishedSchema.safeParse(value).data;
  const isSame = found?.key === key && (student.parameters.kind === 'lora' || found.config.format === format);
  if (found === undefined || !isSame) {
    throw new UserError(
      `${dirname(file)} holds a student that was trained otherwise (${basename(file)}). Give the output another folder, or delete that one.`,
    );
  }
  const { stepCount, trainedTokenCount, developmentLoss, keptStep = stepCount } = found;
  return { stepCount, trainedTokenCount, developmentLoss, keptStep };
};
