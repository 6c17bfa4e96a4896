import { InternalError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
import { bootstrapRatio } from './bootstrap.ts';
import { crossedMean, differencePseudo, type MeanEstimate, mean, type SeedTable, seedCountForGenerality } from './crossed.ts';
import { detectableFrom } from './detectable.ts';
import type { Interval } from './proportion.ts';
import { exactSignFlipTest, mcnemarTest, signFlipTest } from './sign-flip.ts';

/** How two rows of a report differ on the same questions. */
export interface PairedDifference {
  /** First minus second. */
  readonly difference: number;
  readonly interval: Interval;
  readonly generality: MeanEstimate['generality'];
  readonly pValue: number;
  /** Names the test that gave `pValue`. */
  readonly test: 'exact McNemar' | 'exact sign-flip over questions' | 'sign-flip over questions' | 'crossed t';
  readonly seedCount: number;
  readonly questionCount: number;
  /** The smallest true difference that this many questions and seeds find with 80 % power, given the variation seen. */
  readonly detectable: number;
}

/** Counts of one seed's pair of students, and McNemar's exact test on them. */
export interface PairCounts {
  readonly bothCount: number;
  readonly onlyFirstCount: number;
  readonly onlySecondCount: number;
  readonly neitherCount: number;
  readonly pValue: number;
  readonly midPValue: number;
}

/** McNemar's table of two students' right answers to the same questions. */
export const pairCounts = (first: readonly boolean[], second: readonly boolean[]): PairCounts => {
  if (first.length !== second.length) throw new InternalError(`${first.length} and ${second.length} answers were paired`);
  const count = (a: boolean, b: boolean) => first.filter((value, index) => value === a && second[index] === b).length;
  const onlyFirstCount = count(true, false);
  const onlySecondCount = count(false, true);
  const test = mcnemarTest(onlyFirstCount, onlySecondCount);
  return { bothCount: count(true, true), onlyFirstCount, onlySecondCount, neitherCount: count(false, false), ...test };
};

/**
 * The difference of two accuracies over seeds and questions. Tables of as many seeds are paired seed by seed; one of a single row (an
 * untouched student, a teacher) stands against every seed. From five seeds on the crossed estimate; below, questions alone are random, and
 * the p-value is exact: McNemar's for one seed, its sign-flip form for the sums over several.
 */
export const compareScores = (first: SeedTable, second: SeedTable): PairedDifference => {
  const table = subtract(first, second);
  const estimate = crossedMean(table, { pseudo: differencePseudo });
  const isCrossed = table.length >= seedCountForGenerality;
  const sums = (table[0] ?? []).map((_, question) => Math.round(table.reduce((sum, row) => sum + (row[question] ?? 0), 0)));
  return {
    ...describe(estimate),
    interval: { ...estimate.interval, low: Math.max(-1, estimate.interval.low), high: Math.min(1, estimate.interval.high) },
    pValue: isCrossed ? estimate.pValue : exactSignFlipTest(sums).pValue,
    test: isCrossed ? 'crossed t' : table.length === 1 ? 'exact McNemar' : 'exact sign-flip over questions',
  };
};

/**
 * The difference of two mean log-likelihoods a token, Σ over questions (first − second) / Σ tokens. `tokenCounts` by question, the same for
 * both. From five seeds on the crossed estimate of the linearised ratio; below, the paired bootstrap over questions with the sign-flip test.
 */
export const compareLikelihoods = (
  first: SeedTable,
  second: SeedTable,
  tokenCounts: readonly number[],
  random: Random,
): PairedDifference => {
  const table = subtract(first, second);
  const meanTokenCount = mean(tokenCounts);
  const ratio = mean(table.map(mean)) / meanTokenCount;
  // A ratio of sums is, to first order, the mean of (x − R·t) / t̄ + R
  const linear = table.map((row) => row.map((value, question) => (value - ratio * (tokenCounts[question] ?? 0)) / meanTokenCount + ratio));
  const estimate = crossedMean(linear);
  if (table.length >= seedCountForGenerality)
    return { ...describe(estimate), interval: estimate.interval, pValue: estimate.pValue, test: 'crossed t' };
  const perQuestion = tokenCounts.map((_, question) => mean(table.map((row) => row[question] ?? 0)));
  return {
    ...describe(estimate),
    interval: bootstrapRatio(perQuestion, tokenCounts, random).interval,
    pValue: signFlipTest(perQuestion, random).pValue,
    test: 'sign-flip over questions',
  };
};

const describe = (estimate: MeanEstimate) => ({
  difference: estimate.mean,
  generality: estimate.generality,
  seedCount: estimate.seedCount,
  questionCount: estimate.questionCount,
  detectable: detectableFrom(estimate.standardError, estimate.degreesOfFreedom),
});

const subtract = (first: SeedTable, second: SeedTable): number[][] => {
  const seedCount = Math.max(first.length, second.length);
  const rowOf = (table: SeedTable, seed: number): readonly number[] => {
    const row = table.length === 1 ? table[0] : table[seed];
    if (row === undefined) throw new InternalError(`${first.length} and ${second.length} seeds were paired`);
    return row;
  };
  return Array.from({ length: seedCount }, (_, seed) => {
    const other = rowOf(second, seed);
    return rowOf(first, seed).map((value, question) => value - (other[question] ?? Number.NaN));
  });
};
