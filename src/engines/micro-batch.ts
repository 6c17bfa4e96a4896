import type { HostTensor } from '../graph/tensor-type.ts';
import { batchSizes, coarseLengthBucket, lengthBucket, lossBucket } from './buckets.ts';
import type { TokenRow } from './engine.ts';

/** Rows of like length that one run computes together. */
export interface MicroBatch {
  /** Indices of the rows among those given. */
  readonly rowIndices: readonly number[];
  readonly shape: MicroBatchShape;
}

/** What a program is compiled for. */
export interface MicroBatchShape {
  readonly batch: number;
  readonly sequence: number;
  /** Places for tokens with a loss, over all rows. */
  readonly lossCount: number;
}

/** Activations of about this many numbers (tokens × width × layers) are computed in one run: small models take many rows at once. */
const activationBudget = 2 ** 23;

/** Tokens that one run computes, for a model of this size. */
export const tokenBudgetOf = ({ width, layerCount }: { readonly width: number; readonly layerCount: number }): number =>
  Math.max(1, Math.floor(activationBudget / (width * layerCount)));

/** A model of which one run computes fewer tokens than this is large: its rows run alone, in shapes so few that all programs can be kept. */
const largeModelTokens = 1024;

/** Groups rows by length bucket, the shortest bucket first, each in the order given. Which rows share a run depends on nothing but them. */
export const microBatches = (rows: readonly TokenRow[], tokenBudget: number): MicroBatch[] => {
  if (tokenBudget < largeModelTokens) return rowsAlone(rows);
  const buckets = new Map<number, number[]>();
  rows.forEach((row, index) => {
    const sequence = lengthBucket(row.tokens.length);
    buckets.set(sequence, [...(buckets.get(sequence) ?? []), index]);
  });
  return [...buckets]
    .sort(([a], [b]) => a - b)
    .flatMap(([sequence, indices]) => {
      let taken = 0;
      return batchSizes(indices.length, Math.floor(tokenBudget / sequence)).map((batch) => {
        const rowIndices = indices.slice(taken, taken + batch);
        taken += batch;
        const lossTokens = rowIndices.reduce((sum, index) => sum + lossPositions(rows[index] as TokenRow).length, 0);
        return { rowIndices, shape: { batch, sequence, lossCount: lossBucket(lossTokens, batch * sequence) } };
      });
    });
};

/**
 * Each row by itself, the shortest shape first. There is a place for the loss of every token: a shape for each share of them would be so many
 * programs that rows of many lengths have most compiled anew at every step, which costs several times what the larger head does.
 */
const rowsAlone = (rows: readonly TokenRow[]): MicroBatch[] =>
  rows
    .map(({ tokens }, index) => {
      const sequence = coarseLengthBucket(tokens.length);
      return { rowIndices: [index], shape: { batch: 1, sequence, lossCount: sequence } };
    })
    .sort((a, b) => a.shape.sequence - b.shape.sequence);

/** Positions of a row's tokens that have a weight; each is predicted by the position before it. */
export const lossPositions = (row: TokenRow): number[] => row.weights.flatMap((weight, position) => (weight === 0 ? [] : [position]));

/** A micro-batch as the tensors that the step programs take; its loss tokens follow each other, row by row. */
export const packed = (
  rows: readonly TokenRow[],
  { batch, sequence, lossCount }: MicroBatchShape,
  vocabularySize: number,
): Record<string, HostTensor> => {
  const tokens = new Int32Array(batch * sequence);
  const sources = new Int32Array(lossCount);
  const targets = new Int32Array(lossCount);
  const weights = new Float32Array(lossCount);
  const withTeacher = rows.some((row) => row.teacherLogits !== undefined);
  const teacherLogits = withTeacher ? new Float32Array(lossCount * vocabularySize) : undefined;
  let place = 0;
  rows.forEach((row, rowIndex) => {
    tokens.set(row.tokens, rowIndex * sequence);
    if (row.teacherLogits !== undefined) teacherLogits?.set(row.teacherLogits, place * vocabularySize);
    for (const position of lossPositions(row)) {
      // The causal shift, here and nowhere else: the hidden value before a token predicts it.
      sources[place] = rowIndex * sequence + position - 1;
      targets[place] = row.tokens[position] as number;
      weights[place] = row.weights[position] as number;
      place++;
    }
  });
  return {
    tokens: { dataType: 'int32', shape: [batch, sequence], data: tokens },
    sources: { dataType: 'int32', shape: [lossCount], data: sources },
    targets: { dataType: 'int32', shape: [lossCount], data: targets },
    weights: { dataType: 'float32', shape: [lossCount], data: weights },
    ...(teacherLogits && { teacherLogits: { dataType: 'float32', shape: [lossCount, vocabularySize], data: teacherLogits } }),
  };
};
