import { InternalError } from '../base/errors.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import { batchSizes, fewSizes, lengthBucket, lossBucket, powerOfTwo } from './buckets.ts';
import type { EngineSpecification, RowLimits, TokenRow } from './engine.ts';

/** Rows that one run computes together. */
export interface MicroBatch {
  /** What lies in each sequence of the batch: indices of the rows among those given, one after the other. */
  readonly lanes: readonly (readonly number[])[];
  readonly shape: MicroBatchShape;
}

/** What a program is compiled for. */
export interface MicroBatchShape {
  readonly batch: number;
  readonly sequence: number;
  /** Places for tokens with a loss, over all rows. */
  readonly lossCount: number;
  /** A sequence may hold several rows, of which none sees another. */
  readonly packed?: true;
}

/** Activations of about this many numbers (tokens × width × layers) are computed in one run: small models take many rows at once. */
const activationBudget = 2 ** 23;

/** Tokens that one run computes: as many as it is told, or as a model of this size allows. */
export const tokenBudgetOf = (
  { width, layerCount }: { readonly width: number; readonly layerCount: number },
  { tokensPerRun }: Pick<EngineSpecification, 'tokensPerRun'>,
): number => tokensPerRun ?? Math.max(1, Math.floor(activationBudget / (width * layerCount)));

/** A model of which one run computes fewer tokens than this is large: its rows are packed, in shapes so few that all programs can be kept. */
const largeModelTokens = 1024;

/**
 * Which rows share a run depends on nothing but them.
 *
 * @param given limits of all rows that are computed in turn, so that all take programs of the same shapes; these rows are within them
 */
export const microBatches = (rows: readonly TokenRow[], tokenBudget: number, given?: RowLimits): MicroBatch[] => {
  const own = rowLimits(rows);
  const limits = given ?? own;
  if (own.tokenCount > limits.tokenCount || own.weightedShare > limits.weightedShare) {
    throw new InternalError(`rows of ${JSON.stringify(own)} are beyond the limits that were given, ${JSON.stringify(limits)}`);
  }
  return tokenBudget < largeModelTokens ? packs(rows, tokenBudget, limits) : likeLengths(rows, tokenBudget);
};

export const rowLimits = (rows: readonly TokenRow[]): RowLimits =>
  rows.reduce(
    ({ tokenCount, weightedShare }, row) => ({
      tokenCount: Math.max(tokenCount, row.tokens.length),
      weightedShare: Math.max(weightedShare, lossPositions(row).length / row.tokens.length),
    }),
    { tokenCount: 0, weightedShare: 0 },
  );

/** Rows by length bucket, the shortest bucket first, each in the order given; a row in each sequence. */
const likeLengths = (rows: readonly TokenRow[], tokenBudget: number): MicroBatch[] => {
  const buckets = Map.groupBy(rows.keys(), (index) => lengthBucket((rows[index] as TokenRow).tokens.length));
  return [...buckets]
    .sort(([a], [b]) => a - b)
    .flatMap(([sequence, indices]) => {
      let taken = 0;
      return batchSizes(indices.length, Math.floor(tokenBudget / sequence)).map((batch) => {
        const chosen = indices.slice(taken, taken + batch);
        taken += batch;
        const lossTokens = chosen.reduce((sum, index) => sum + lossPositions(rows[index] as TokenRow).length, 0);
        return {
          lanes: chosen.map((index) => [index]),
          shape: { batch, sequence, lossCount: lossBucket(lossTokens, batch * sequence) },
        };
      });
    });
};

/** Fewer tokens than this in one run would have every matrix packed anew for little work. */
const leastRunLength = 256;
const leastLaneLength = 128;

/**
 * Rows one after the other in sequences (lanes) no longer than the longest row of all needs, since attention costs their square, and as many lanes in a
 * run as the budget allows. There are two shapes, that and its half, each with places for as many losses as the most talkative row's share makes of it: a
 * large model's program takes seconds to compile, and so much memory that few can be kept. Longer rows run alone, in shapes of their own.
 */
const packs = (rows: readonly TokenRow[], tokenBudget: number, limits: RowLimits): MicroBatch[] => {
  const lengthOf = (index: number): number => (rows[index] as TokenRow).tokens.length;
  const runLength = powerOfTwo(Math.max(leastRunLength, tokenBudget));
  const shapeOf = (batch: number, sequence: number): MicroBatchShape => {
    const places = batch * sequence;
    return { batch, sequence, lossCount: lossBucket(Math.ceil(limits.weightedShare * places), places), packed: true };
  };
  const longestFirst = [...rows.keys()].sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const alone = longestFirst
    .filter((index) => lengthOf(index) > runLength)
    .map((index) => ({ lanes: [[index]], shape: shapeOf(1, fewSizes(lengthOf(index))) }));
  const short = longestFirst.slice(alone.length);
  const laneLength = powerOfTwo(Math.min(runLength, Math.max(leastLaneLength, limits.tokenCount)));
  const perRun = runLength / laneLength;
  const lanes = firstFit(short, lengthOf, laneLength);
  const together = Array.from({ length: Math.ceil(lanes.length / perRun) }, (_, run) => {
    const own = lanes.slice(run * perRun, (run + 1) * perRun);
    if (perRun > 1) return { lanes: own, shape: shapeOf(own.length > perRun / 2 ? perRun : perRun / 2, laneLength) };
    const used = own.flat().reduce((sum, index) => sum + lengthOf(index), 0);
    return { lanes: own, shape: shapeOf(1, used > laneLength / 2 ? laneLength : laneLength / 2) };
  });
  return [...alone, ...together];
};

/** Lanes by first fit, the longest rows first (Johnson 1973): hardly more than 11/9 of the fewest that there could be. */
const firstFit = (longestFirst: readonly number[], lengthOf: (index: number) => number, laneLength: number): number[][] => {
  const lanes: { readonly indices: number[]; free: number }[] = [];
  for (const index of longestFirst) {
    let lane = lanes.find(({ free }) => free >= lengthOf(index));
    if (lane === undefined) {
      lane = { indices: [], free: laneLength };
      lanes.push(lane);
    }
    lane.indices.push(index);
    lane.free -= lengthOf(index);
  }
  return lanes.map(({ indices }) => indices);
};

/** Positions of a row's tokens that have a weight; each is predicted by the position before it. */
export const lossPositions = (row: TokenRow): number[] => row.weights.flatMap((weight, position) => (weight === 0 ? [] : [position]));

/** A micro-batch as the tensors that the step programs take; its loss tokens follow each other, lane by lane and row by row. */
export const packed = (
  lanes: readonly (readonly TokenRow[])[],
  shape: MicroBatchShape,
  vocabularySize: number,
): Record<string, HostTensor> => {
  const { batch, sequence, lossCount } = shape;
  const tokens = new Int32Array(batch * sequence);
  const sources = new Int32Array(lossCount);
  const targets = new Int32Array(lossCount);
  const weights = new Float32Array(lossCount);
  const withTeacher = lanes.flat().some((row) => row.teacherLogits !== undefined);
  const teacherLogits = withTeacher ? new Float32Array(lossCount * vocabularySize) : undefined;
  let place = 0;
  lanes.forEach((lane, laneIndex) => {
    let start = laneIndex * sequence;
    for (const row of lane) {
      tokens.set(row.tokens, start);
      if (row.teacherLogits !== undefined) teacherLogits?.set(row.teacherLogits, place * vocabularySize);
      for (const position of lossPositions(row)) {
        // The causal shift, here and nowhere else: the hidden value before a token predicts it.
        sources[place] = start + position - 1;
        targets[place] = row.tokens[position] as number;
        weights[place] = row.weights[position] as number;
        place++;
      }
      start += row.tokens.length;
    }
  });
  return {
    tokens: { dataType: 'int32', shape: [batch, sequence], data: tokens },
    sources: { dataType: 'int32', shape: [lossCount], data: sources },
    targets: { dataType: 'int32', shape: [lossCount], data: targets },
    weights: { dataType: 'float32', shape: [lossCount], data: weights },
    ...(shape.packed &&
      placesIn(
        lanes.map((lane) => lane.map((row) => row.tokens.length)),
        shape,
      )),
    ...(teacherLogits && { teacherLogits: { dataType: 'float32', shape: [lossCount, vocabularySize], data: teacherLogits } }),
  };
};

/**
 * Where each token stands in its row, and where in the lane its row begins. What fills a lane up is a row too.
 *
 * @param lengths of the rows of each lane
 * @param first position of every row
 */
export const placesIn = (
  lengths: readonly (readonly number[])[],
  { batch, sequence }: Pick<MicroBatchShape, 'batch' | 'sequence'>,
  first = 0,
): Record<string, HostTensor> => {
  const positions = new BigInt64Array(batch * sequence);
  const starts = new Float32Array(batch * sequence);
  for (let lane = 0; lane < batch; lane++) {
    const own = lengths[lane] ?? [];
    let start = 0;
    for (const length of [...own, sequence - own.reduce((sum, count) => sum + count, 0)]) {
      for (let position = 0; position < length; position++) positions[lane * sequence + start + position] = BigInt(first + position);
      starts.fill(start, lane * sequence + start, lane * sequence + start + length);
      start += length;
    }
  }
  return {
    positions: { dataType: 'int64', shape: [batch, sequence], data: positions },
    starts: { dataType: 'float32', shape: [batch, sequence], data: starts },
  };
};
