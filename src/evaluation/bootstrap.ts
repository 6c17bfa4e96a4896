import type { Random } from '../base/random.ts';
import type { Interval } from './proportion.ts';

export interface BootstrapOptions {
  readonly confidence?: number;
  readonly drawCount?: number;
}

/**
 * The percentile bootstrap over questions (Efron 1979): questions are drawn with replacement, each with everything that belongs to it, so
 * that pairs and seeds stay together. `statistic` gets the drawn questions' indices.
 */
export const bootstrapInterval = (
  questionCount: number,
  statistic: (drawn: Int32Array) => number,
  random: Random,
  { confidence = 0.95, drawCount = 4000 }: BootstrapOptions = {},
): Interval => {
  const drawn = new Int32Array(questionCount);
  const values = Float64Array.from({ length: drawCount }, () => {
    for (let place = 0; place < questionCount; place++) drawn[place] = random.integer(questionCount);
    return statistic(drawn);
  }).sort();
  return { low: quantile(values, (1 - confidence) / 2), high: quantile(values, (1 + confidence) / 2), confidence };
};

/** Σ numerator / Σ denominator over questions, such as nats per token, with its bootstrap interval. */
export const bootstrapRatio = (
  numerators: readonly number[],
  denominators: readonly number[],
  random: Random,
  options: BootstrapOptions = {},
): { readonly ratio: number; readonly interval: Interval } => {
  const ratioOf = (drawn: Iterable<number>) => {
    let above = 0;
    let below = 0;
    for (const question of drawn) {
      above += numerators[question] ?? 0;
      below += denominators[question] ?? 0;
    }
    return above / below;
  };
  return { ratio: ratioOf(numerators.keys()), interval: bootstrapInterval(numerators.length, ratioOf, random, options) };
};

/** Of sorted values, with linear interpolation between neighbours (type 7 of Hyndman and Fan 1996, numpy's default). */
const quantile = (sorted: Float64Array, probability: number): number => {
  const position = probability * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? Number.NaN;
  const above = sorted[Math.ceil(position)] ?? Number.NaN;
  return below + (above - below) * (position - Math.floor(position));
};
