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
  /** Rows that go through the model together, at most. */
  readonly rowsPerMicroBatch: number;
  /** Padded tokens (rows × longest) of a micro-batch, at most; a single longer row still makes one. Absent: no limit. */
  readonly tokensPerMicroBatch?: number;
}

/** What is known of a row before it is used. */
export interface RowSize {
  readonly tokenCount: number;
  readonly weightedTokenCount: number;
}

/** One optimiser step: row indices by micro-batch, and the divisor of its summed loss, known before the first micro-batch runs. */
export interface StepPlan {
  readonly epoch: number;
  readonly microBatches: readonly (readonly number[])[];
  readonly rowCount: number;
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
  const indices = epochOrder(rows.length, options.seed, state.epoch).slice(state.position, state.position + options.rowsPerStep);
  const end = state.position + indices.length;
  const plan: StepPlan = {
    epoch: state.epoch,
    microBatches: microBatches(rows, indices, options),
    rowCount: indices.length,
    weightedTokenCount: indices.reduce((sum, index) => sum + (rows[index]?.weightedTokenCount ?? 0), 0),
  };
  return { plan, state: end >= rows.length ? { epoch: state.epoch + 1, position: 0 } : { epoch: state.epoch, position: end } };
};

/**
 * Groups rows of like length, so that little is padded: sorted by length (then index), and cut where a group is full. Which rows share a
 * micro-batch changes nothing but rounding, since losses are sums.
 */
export const microBatches = (
  rows: readonly RowSize[],
  indices: readonly number[],
  { rowsPerMicroBatch, tokensPerMicroBatch = Number.POSITIVE_INFINITY }: Pick<BatchOptions, 'rowsPerMicroBatch' | 'tokensPerMicroBatch'>,
): number[][] => {
  const lengthOf = (index: number): number => rows[index]?.tokenCount ?? 0;
  const sorted = [...indices].sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  const groups: number[][] = [];
  for (const index of sorted) {
    const group = groups.at(-1);
    // Sorted by length, the newest row is the longest: it sets the width of the group.
    const fits = group !== undefined && group.length < rowsPerMicroBatch && (group.length + 1) * lengthOf(index) <= tokensPerMicroBatch;
    if (fits) group.push(index);
    else groups.push([index]);
  }
  return groups;
};

const checkOptions = (rows: readonly RowSize[], options: BatchOptions): void => {
  if (rows.length === 0) throw new UserError('There are no rows to train on: every one was dropped or the data is empty.');
  const { rowsPerStep, rowsPerMicroBatch, epochCount } = options;
  for (const [name, value] of Object.entries({ rowsPerStep, rowsPerMicroBatch, epochCount })) {
    if (!Number.isInteger(value) || value < 1) throw new UserError(`${name} must be a whole number of at least 1, not ${value}.`);
  }
};
