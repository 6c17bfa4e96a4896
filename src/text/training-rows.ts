import { UserError } from '../base/errors.ts';
import type { TrainingRow } from './training-row.ts';

/** Rows with what became of the others. */
export interface TrainingRows<Item> {
  readonly rows: readonly { readonly item: Item; readonly row: TrainingRow }[];
  /** Items too long for the limit: nothing to learn is left of them, or they would end in mid-answer and those are not wanted. */
  readonly dropped: readonly Item[];
  /** Rows whose end was cut off: of those the end of the answer is not learnt. */
  readonly truncatedCount: number;
  /** Rows in which generation's prompt is no prefix, so the student will be asked with a text slightly other than it learnt from. */
  readonly rewrittenCount: number;
}

export interface TrainingRowsOptions {
  readonly maximumLength: number;
  /** Keep rows whose end was cut off (they teach how to begin, not how to stop); otherwise they are dropped. */
  readonly keepTruncated: boolean;
  /** What the items are, for errors: a file, an arm. */
  readonly what: string;
}

/**
 * Makes a row of every item. Items without a row are counted, not lost in silence; if none has one, that is an error. `makeRow` returns
 * undefined where the length limit leaves nothing to learn.
 */
export const trainingRows = <Item>(
  items: readonly Item[],
  makeRow: (item: Item) => TrainingRow | undefined,
  { maximumLength, keepTruncated, what }: TrainingRowsOptions,
): TrainingRows<Item> => {
  if (items.length === 0) throw new UserError(`${what}: there is nothing to train on.`);
  const made = items.map((item) => {
    const row = makeRow(item);
    return { item, row: row?.isTruncated === true && !keepTruncated ? undefined : row };
  });
  const rows = made.flatMap(({ item, row }) => (row === undefined ? [] : [{ item, row }]));
  if (rows.length === 0) {
    throw new UserError(
      `${what}: none of the ${items.length} rows fits into ${maximumLength} tokens with its answer. Raise maximumLength.`,
    );
  }
  return {
    rows,
    dropped: made.flatMap(({ item, row }) => (row === undefined ? [item] : [])),
    truncatedCount: rows.filter(({ row }) => row.isTruncated).length,
    rewrittenCount: rows.filter(({ row }) => row.alignment === 'spans').length,
  };
};
