import { UserError } from '../base/errors.ts';
import { randomFrom, shuffled } from '../base/random.ts';

/** Where training stands in its data: as many rows of the epoch's order are used up. Saved as it is, it continues the very same order. */
export interface BatchState {
  readonly epoch: number;
  readonly position: number;
}

export const firstBatch: BatchState = { epoch: 0, position: 0 };

export interface BatchOptions {
  /** Decides the order of every epoch; the same for all arms that are to be compared. */
  readonly seed: number;
  readonly epochCount: number;
  /** Rows of one optimiser step. The last step of an epoch has what is left. */
  readonly rowsPerStep: number;
}

/** What is known of a row before it is used. */
export interface RowSize {
  readonly tokenCount: number;
  readonly weightedTokenCount: number;
}

/** One optimiser step: its rows, and the divisor of their summed loss, known before any is computed. */
export interface StepPlan {
  readonly epoch: number;
  readonly rowIndices: readonly number[];
  readonly weightedTokenCount: number;
}

/** The optimiser steps of a whole training. */
export const stepCount = (rowCount: number, { epochCount, rowsPerStep }: BatchOptions): number =>
  epochCount * Math.ceil(rowCount / rowsPerStep);

/** The order of an epoch: a permutation drawn from the seed and the epoch alone. */
export const epochOrder = (rowCount: number, seed: number, epoch: number): number[] =>
  shuffled(
    Array.from({ length: rowCount }, (_, index) => index),
    randomFrom(seed, 'row order', epoch),
  );

/** The next optimiser step and the state after it; undefined when all epochs are done. */
export const nextStep = (
  rows: readonly RowSize[],
  state: BatchState,
  options: BatchOptions,
): { plan: StepPlan; state: BatchState } | undefined => {
  checkOptions(rows, options);
  if (state.epoch >= options.epochCount) return undefined;
  const end = Math.min(rows.length, state.position + options.rowsPerStep);
  const rowIndices = epochOrder(rows.length, options.seed, state.epoch).slice(state.position, end);
  const plan: StepPlan = {
    epoch: state.epoch,
    rowIndices,
    weightedTokenCount: rowIndices.reduce((sum, index) => sum + (rows[index]?.weightedTokenCount ?? 0), 0),
  };
  return { plan, state: end >= rows.length ? { epoch: state.epoch + 1, position: 0 } : { epoch: state.epoch, position: end } };
};

/** Every optimiser step of a training, in its order. */
export function* stepsOf(rows: readonly RowSize[], options: BatchOptions): Generator<StepPlan> {
  for (let next = nextStep(rows, firstBatch, options); next !== undefined; next = nextStep(rows, next.state, options)) yield next.plan;
}

const checkOptions = (rows: readonly RowSize[], options: BatchOptions): void => {
  if (rows.length === 0) throw new UserError('There are no rows to train on: every one was dropped or the data is empty.');
  const { rowsPerStep, epochCount } = options;
  for (const [name, value] of Object.entries({ rowsPerStep, epochCount })) {
    if (!Number.isInteger(value) || value < 1) throw new UserError(`${name} must be a whole number of at least 1, not ${value}.`);
  }
};
