import { detectableDifference } from './detectable.ts';

/** What a comparison will be able to find, said before anything is measured. */
export interface StudyPlan {
  readonly questionCount: number;
  readonly seedCount: number;
  /** Planned comparisons; Holm's first step divides the level by their number. */
  readonly comparedCount: number;
  readonly power: number;
  readonly alpha: number;
  readonly rows: readonly PlanRow[];
}

/** The smallest difference of two accuracies that is found, for an assumed discordance. Shares, not points; undefined: none could be. */
export interface PlanRow {
  /** The share of questions that only one of two students gets right. */
  readonly discordance: number;
  readonly oneSeed: number | undefined;
  /** If seeds of one arm were right on the very same questions, more of them would not help. */
  readonly seedsAlike: number | undefined;
  /** If they erred independently, each would count like new questions. The truth lies between the two. */
  readonly seedsIndependent: number | undefined;
}

export interface StudyPlanOptions {
  readonly questionCount: number;
  readonly seedCount: number;
  readonly comparedCount: number;
  readonly power?: number;
}

/** Detectable differences for discordances from 5 to 40 %: what it is, only the run will tell; arms of one small model often lie at 10 to 25 %. */
export const planStudy = ({ questionCount, seedCount, comparedCount, power = 0.8 }: StudyPlanOptions): StudyPlan => {
  const alpha = 0.05 / Math.max(1, comparedCount);
  const detectable = (count: number, discordance: number) => detectableDifference(count, discordance, { power, alpha });
  const rows = [0.05, 0.1, 0.2, 0.3, 0.4].map((discordance) => {
    const oneSeed = detectable(questionCount, discordance);
    return { discordance, oneSeed, seedsAlike: oneSeed, seedsIndependent: detectable(questionCount * seedCount, discordance) };
  });
  return { questionCount, seedCount, comparedCount, power, alpha, rows };
};
