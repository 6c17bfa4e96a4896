import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { writeFileAtomic } from '../base/folders.ts';
import { appendJsonLines, readJsonLines } from '../base/json-lines.ts';
import type { Engine, LossSpecification, LossSums, OptimiserSpecification, TokenRow } from '../engines/engine.ts';
import { rowLimits } from '../engines/micro-batch.ts';
import { learningRateAt, type ScheduleName } from '../optim/schedule.ts';
import { firstBatch, nextStep, stepCount as plannedStepCount, type RowSize } from '../text/batches.ts';
import { readCheckpoint, saveCheckpoint, type TrainingProgress } from './checkpoint.ts';

/** How a student is trained; the `training` part of a config. */
export interface FineTuneSettings {
  readonly epochs: number;
  readonly rowsPerStep: number;
  readonly learningRate: number;
  readonly schedule: ScheduleName;
  /** The share of all steps over which the learning rate rises. */
  readonly warmupShare: number;
  readonly optimiser: OptimiserSpecification;
  /** Gradients of a larger global norm are scaled down to it; null: never. */
  readonly maximumNorm: number | null;
  readonly loss: LossSpecification;
  readonly stepsPerCheckpoint: number;
  readonly stepsPerEvaluation: number;
  /** Which weights are left in the engine: the last (when absent), or those with the least development loss along the training. */
  readonly checkpoint?: 'last' | 'best';
}

export interface FineTuneOptions {
  /** With the parameters to start from. */
  readonly engine: Engine;
  readonly rows: readonly TokenRow[];
  /** Rows that are never trained on: their loss is taken every `stepsPerEvaluation` steps and at the end. */
  readonly developmentRows?: readonly TokenRow[];
  readonly settings: FineTuneSettings;
  /** Draws the order of rows: the same for arms that are compared. */
  readonly seed: number;
  /** Hash of all that decides the result (weights, data, settings, seed); a checkpoint of another key is refused. */
  readonly key: string;
  readonly checkpoints: string;
  /** JSON lines, one an optimiser step or evaluation. */
  readonly metrics: string;
  /** The clock, for tokens per second. */
  readonly now?: () => number;
  readonly onProgress?: (progress: FineTuneProgress) => void;
  /** Checked between steps: a checkpoint is saved before the training ends. */
  readonly signal?: AbortSignal;
  /** Teacher logits for a row's weighted tokens, where the loss wants them: asked for when the row's turn comes, since they are large. */
  readonly teacherLogits?: (rowIndex: number) => Promise<Float32Array>;
}

export interface FineTuneProgress {
  readonly doneCount: number;
  readonly totalCount: number;
  /** Mean loss per token of the last step. */
  readonly loss: number;
  /** Tokens that went through the model in this call. */
  readonly tokenCount: number;
}

export interface FineTuneResult {
  readonly stepCount: number;
  /** Tokens that the loss was taken over, each time that they were. */
  readonly trainedTokenCount: number;
  /** Mean loss per token of the weights left in the engine on the development rows; undefined without such rows. */
  readonly developmentLoss: number | undefined;
  /** The step after which the engine's weights were as they are left. */
  readonly keptStep: number;
}

/**
 * Fine-tunes by the settings' loss: LoRA or all parameters, as the engine was made. Killed at any point and started again, it continues
 * from its last checkpoint to the same bytes (same machine, versions and thread count).
 */
export const fineTune = async (options: FineTuneOptions): Promise<FineTuneResult> => {
  const { engine, rows, developmentRows = [], settings, seed, key, checkpoints, metrics, signal, onProgress } = options;
  const { rowsPerStep, epochs, optimiser, maximumNorm, loss } = settings;
  const now = options.now ?? Date.now;
  const batches = { seed, epochCount: epochs, rowsPerStep };
  const sizes = rows.map(sizeOf);
  const limits = rowLimits(rows);
  for (const { tokenCount } of [limits, rowLimits(developmentRows)]) checkLength(tokenCount, engine);
  const totalCount = plannedStepCount(rows.length, batches);
  const schedule = {
    name: settings.schedule,
    learningRate: settings.learningRate,
    stepCount: totalCount,
    warmupStepCount: Math.round(settings.warmupShare * totalCount),
  };

  const checkpoint = await readCheckpoint(checkpoints, key);
  if (checkpoint !== undefined) await engine.restore(checkpoint.state);
  let progress: TrainingProgress = checkpoint?.progress ?? { ...firstBatch, stepCount: 0, trainedTokenCount: 0 };
  await cutMetrics(metrics, { stepCount: checkpoint === undefined ? undefined : progress.stepCount, totalCount });
  const log = await appendJsonLines(metrics);

  const bestFolder = join(checkpoints, 'best');
  let best = settings.checkpoint === 'best' ? (await readCheckpoint(bestFolder, key))?.progress : undefined;
  let doneTokenCount = 0;
  const evaluate = async (): Promise<number | undefined> => {
    if (developmentRows.length === 0) return undefined;
    const development = await developmentLossOf(engine, developmentRows);
    await log.append({ step: progress.stepCount, developmentLoss: development });
    // The untouched student is no outcome of training.
    if (settings.checkpoint === 'best' && progress.stepCount > 0 && development < (best?.developmentLoss ?? Number.POSITIVE_INFINITY)) {
      best = { ...progress, developmentLoss: development };
      await saveCheckpoint(bestFolder, key, {
        progress: best,
        state: { parameters: await engine.parameters(), optimiser: {}, stepCount: 0 },
      });
    }
    return development;
  };
  try {
    // The untouched student's loss: without it nobody can say what training changed.
    if (checkpoint === undefined) await evaluate();
    for (;;) {
      const next = nextStep(sizes, progress, batches);
      if (next === undefined) break;
      if (signal?.aborted === true) {
        await saveCheckpoint(checkpoints, key, { progress, state: await engine.state() });
        signal.throwIfAborted();
      }
      const startMs = now();
      const { rowIndices, weightedTokenCount } = next.plan;
      const stepRows = await Promise.all(rowIndices.map((index) => withTeacher(rows[index] as TokenRow, index, options)));
      const sums = await engine.forwardBackward(stepRows, loss, limits);
      const learningRate = learningRateAt(progress.stepCount, schedule);
      const { gradientNorm } = await engine.optimStep({
        optimiser,
        learningRate,
        tokenCount: weightedTokenCount,
        ...(maximumNorm !== null && { maximumNorm }),
      });
      progress = {
        ...next.state,
        stepCount: progress.stepCount + 1,
        trainedTokenCount: progress.trainedTokenCount + weightedTokenCount,
      };
      const tokenCount = rowIndices.reduce((sum, index) => sum + (sizes[index]?.tokenCount ?? 0), 0);
      await log.append({
        step: progress.stepCount,
        epoch: next.plan.epoch,
        ...meansOf(sums),
        learningRate,
        gradientNorm,
        tokenCount,
        weightedTokenCount,
        tokensPerSecond: Math.round((1000 * tokenCount) / Math.max(1, now() - startMs)),
      });
      doneTokenCount += tokenCount;
      onProgress?.({ doneCount: progress.stepCount, totalCount, loss: sums.sum / sums.tokenCount, tokenCount: doneTokenCount });
      const isLast = progress.stepCount === totalCount;
      if (!isLast && progress.stepCount % settings.stepsPerEvaluation === 0) await evaluate();
      if (isLast || progress.stepCount % settings.stepsPerCheckpoint === 0) {
        await saveCheckpoint(checkpoints, key, { progress, state: await engine.state() });
      }
    }
    const developmentLoss = await evaluate();
    const { stepCount, trainedTokenCount } = progress;
    const kept = best === undefined || best.stepCount === stepCount ? undefined : await readCheckpoint(bestFolder, key);
    if (kept === undefined) return { stepCount, trainedTokenCount, developmentLoss, keptStep: stepCount };
    await engine.load(kept.state.parameters);
    return { stepCount, trainedTokenCount, developmentLoss: kept.progress.developmentLoss, keptStep: kept.progress.stepCount };
  } finally {
    await log.close();
  }
};

/** Removes what only a training that is not yet finished needs. */
export const removeCheckpoints = (checkpoints: string): Promise<void> => rm(checkpoints, { recursive: true, force: true });

/** Mean loss per weighted token: sums first, divided once. */
export const developmentLossOf = async (engine: Engine, rows: readonly TokenRow[]): Promise<number> => {
  const sums = await engine.forward(rows, { name: 'cross-entropy' });
  return sums.reduce((sum, row) => sum + row.sum, 0) / sums.reduce((sum, row) => sum + row.tokenCount, 0);
};

/** Told before the first step, and not when such a row's turn comes. */
const checkLength = (tokenCount: number, { information: { contextLength } }: Engine): void => {
  if (tokenCount <= contextLength) return;
  throw new UserError(
    `The longest row has ${tokenCount} tokens, more than the ${contextLength} that the model was made for. Set training.maximumLength to ${contextLength} or less.`,
  );
};

export const sizeOf = ({ tokens, weights }: TokenRow): RowSize => ({
  tokenCount: tokens.length,
  weightedTokenCount: weights.reduce((sum, weight) => sum + weight, 0),
});

const meansOf = ({ sum, tokenCount, terms }: LossSums) => ({
  loss: sum / tokenCount,
  // Apart, so that a term a thousand times smaller than another is seen.
  terms: Object.fromEntries(Object.entries(terms).map(([name, term]) => [name, term / tokenCount])),
});

const withTeacher = async (row: TokenRow, index: number, { teacherLogits }: FineTuneOptions): Promise<TokenRow> =>
  teacherLogits === undefined ? row : { ...row, teacherLogits: await teacherLogits(index) };

const lineSchema = z.looseObject({ step: z.number(), developmentLoss: z.number().optional() });

/**
 * Leaves only lines of what is not done again: steps up to the checkpoint, and evaluations but for the last, which ends every call. Without
 * a checkpoint (`stepCount` is undefined) all is done again.
 */
const cutMetrics = async (
  path: string,
  { stepCount, totalCount }: { readonly stepCount: number | undefined; readonly totalCount: number },
): Promise<void> => {
  if (!existsSync(path)) return;
  const kept: unknown[] = [];
  for await (const { value } of readJsonLines(path)) {
    const line = lineSchema.safeParse(value).data;
    if (line === undefined || stepCount === undefined || line.step > stepCount) continue;
    if (line.developmentLoss === undefined || line.step < totalCount) kept.push(value);
  }
  await writeFileAtomic(path, kept.map((value) => `${JSON.stringify(value)}\n`).join(''));
};
