import { InternalError } from '../base/errors.ts';
import { normalQuantile } from './distributions.ts';

/** A range that covers the true value with the given probability over repetitions, if its method's assumptions hold. */
export interface Interval {
  readonly low: number;
  readonly high: number;
  /** 0.95 for a 95 % interval. */
  readonly confidence: number;
}

/**
 * Wilson's score interval for a proportion (Wilson 1927): right near 0 and 1, where ± 2 standard errors are not.
 *
 *   (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n)
 */
export const wilsonInterval = (successCount: number, count: number, confidence = 0.95): Interval => {
  if (!(count >= 0 && successCount >= 0 && successCount <= count)) throw new InternalError(`${successCount} successes of ${count}`);
  if (count === 0) return { low: 0, high: 1, confidence };
  const z = normalQuantile((1 + confidence) / 2);
  const proportion = successCount / count;
  const centre = proportion + (z * z) / (2 * count);
  const half = z * Math.sqrt((proportion * (1 - proportion)) / count + (z * z) / (4 * count * count));
  const scale = 1 + (z * z) / count;
  // The formula gives exactly 0 and 1 at the ends, but for rounding.
  const low = successCount === 0 ? 0 : (centre - half) / scale;
  const high = successCount === count ? 1 : (centre + half) / scale;
  return { low, high, confidence };
};
