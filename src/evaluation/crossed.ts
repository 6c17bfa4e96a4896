import { InternalError } from '../base/errors.ts';
import { studentQuantile, studentTwoSided } from './distributions.ts';
import type { Interval } from './proportion.ts';

/** [seeds][questions]: one number for each question under each seed, all rows over the same questions in the same order. */
export type SeedTable = readonly (readonly number[])[];

/** Below this many seeds nothing is claimed about other seeds: a spread from two or three numbers is a guess. */
export const seedCountForGenerality = 5;

export interface MeanEstimate {
  readonly mean: number;
  /** Centred near `mean`, drawn a little towards the pseudo-questions' mean where there are any. */
  readonly interval: Interval;
  /**
   * What the interval speaks about. `questions and seeds`: other questions of this kind and other seeds. `questions`: other questions, for
   * these very seeds; it is labelled "conditional on these seeds".
   */
  readonly generality: 'questions and seeds' | 'questions';
  readonly standardError: number;
  readonly degreesOfFreedom: number;
  /** Two-sided, of a true mean of 0; agrees with the interval. */
  readonly pValue: number;
  readonly questionCount: number;
  readonly seedCount: number;
  /** The mean of each seed, and their standard deviation (0 for one seed). */
  readonly seedMeans: readonly number[];
  readonly seedDeviation: number;
}

export interface MeanOptions {
  readonly confidence?: number;
  /**
   * Pseudo-questions with these values under every seed, for the interval alone: they keep it honest where nothing varies, which for
   * counts near 0 or 1 happens by chance. `differencePseudo` for differences of scores (Bonett and Price 2012), `proportionPseudo`
   * for scores (Agresti and Coull 1998), none for real-valued measures.
   */
  readonly pseudo?: readonly number[];
}

/** One question each way: Bonett and Price's Laplace adjustment for a difference of paired proportions. */
export const differencePseudo: readonly number[] = [1, -1];

/** Two successes and two failures. */
export const proportionPseudo: readonly number[] = [0, 0, 1, 1];

/**
 * The mean of a table of questions × seeds, with an interval that does not take answers to one question, or of one trained student, for
 * independent. From five seeds on, questions and seeds are both random and crossed, as cases and readers are in studies of readers:
 *
 *   V = (max(MS_seed, MS_error) + max(MS_question − MS_error, 0)) / (questions · seeds)
 *   t with df = (V's bracket)² / (MS_seed² / (seeds − 1)), or questions − 1 where MS_seed ≤ MS_error: no spread between seeds was seen
 *
 * (Dorfman, Berbaum and Metz 1992 with Hillis's degrees of freedom, Statistics in Medicine 26, 2007; the floor on MS_seed is ours: seeds
 * that happen to agree never make the interval narrower than that of their questions.) Below five seeds: the mean over seeds of each
 * question, questions alone being random. Chosen by simulation: bench/statistics.ts.
 */
export const crossedMean = (table: SeedTable, options: MeanOptions = {}): MeanEstimate => {
  const { confidence = 0.95, pseudo = [] } = options;
  const questionCount = checkTable(table);
  const seedMeans = table.map(mean);
  const padded = table.map((row) => [...row, ...pseudo]);
  const spread = table.length >= seedCountForGenerality ? crossedSpread(padded) : questionSpread(padded);
  const centre = mean(padded.map(mean));
  const half = spread.standardError === 0 ? 0 : studentQuantile((1 + confidence) / 2, spread.degreesOfFreedom) * spread.standardError;
  return {
    mean: mean(seedMeans),
    interval: { low: centre - half, high: centre + half, confidence },
    generality: table.length >= seedCountForGenerality ? 'questions and seeds' : 'questions',
    ...spread,
    pValue: pValueOf(centre, spread),
    questionCount,
    seedCount: table.length,
    seedMeans,
    seedDeviation: Math.sqrt(variance(seedMeans)),
  };
};

interface Spread {
  readonly standardError: number;
  readonly degreesOfFreedom: number;
}

/** Questions random, seeds as they are. */
const questionSpread = (table: SeedTable): Spread => {
  const perQuestion = (table[0] ?? []).map((_, question) => mean(table.map((row) => row[question] ?? 0)));
  return { standardError: Math.sqrt(variance(perQuestion) / perQuestion.length), degreesOfFreedom: Math.max(1, perQuestion.length - 1) };
};

/** Both random and crossed. */
const crossedSpread = (table: SeedTable): Spread => {
  const { seed, question, error } = meanSquares(table);
  const seedCount = table.length;
  const questionCount = table[0]?.length ?? 0;
  const bracket = Math.max(seed, error) + Math.max(question - error, 0);
  return {
    standardError: Math.sqrt(bracket / (questionCount * seedCount)),
    degreesOfFreedom: seed <= error ? Math.max(1, questionCount - 1) : bracket ** 2 / (seed ** 2 / (seedCount - 1)),
  };
};

export interface MeanSquares {
  readonly seed: number;
  readonly question: number;
  readonly error: number;
}

/** The two-way analysis of variance without replication: mean squares of seeds, questions and what is left. */
export const meanSquares = (table: SeedTable): MeanSquares => {
  const seedCount = table.length;
  const questionCount = table[0]?.length ?? 0;
  const seedMeans = table.map(mean);
  const questionMeans = (table[0] ?? []).map((_, question) => mean(table.map((row) => row[question] ?? 0)));
  const grand = mean(seedMeans);
  let error = 0;
  for (const [seed, row] of table.entries()) {
    for (const [question, value] of row.entries()) {
      error += (value - (seedMeans[seed] ?? 0) - (questionMeans[question] ?? 0) + grand) ** 2;
    }
  }
  return {
    seed: questionCount * variance(seedMeans),
    question: seedCount * variance(questionMeans),
    error: error / Math.max(1, (seedCount - 1) * (questionCount - 1)),
  };
};

const pValueOf = (centre: number, { standardError, degreesOfFreedom }: Spread): number => {
  if (standardError === 0) return centre === 0 ? 1 : 0;
  return studentTwoSided(centre / standardError, degreesOfFreedom);
};

const checkTable = (table: SeedTable): number => {
  const questionCount = table[0]?.length ?? 0;
  if (questionCount === 0) throw new InternalError('a mean over no questions');
  if (table.some((row) => row.length !== questionCount)) throw new InternalError('seeds with different numbers of questions');
  return questionCount;
};

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** With n − 1; 0 for one value. */
export const variance = (values: readonly number[]): number => {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
};
