import { normalQuantile, studentQuantile } from './distributions.ts';

export interface PowerOptions {
  /** The chance of finding a true difference; 0.8 when absent. */
  readonly power?: number;
  /** Two-sided level; divide by the family's size for Holm's first step. 0.05 when absent. */
  readonly alpha?: number;
}

/**
 * The smallest difference of two accuracies over the same questions that McNemar's test finds with the given power, when `discordance` is the
 * share of questions that only one of the two gets right (Connor 1987):
 *
 *   n = (z_{α/2} √ψ + z_β √(ψ − δ²))² / δ²   solved for δ.
 *
 * undefined: not even if every discordant question favoured the same side.
 */
export const detectableDifference = (questionCount: number, discordance: number, options: PowerOptions = {}): number | undefined => {
  const { power = 0.8, alpha = 0.05 } = options;
  const zAlpha = normalQuantile(1 - alpha / 2);
  const zPower = normalQuantile(power);
  const needed = (delta: number) =>
    (zAlpha * Math.sqrt(discordance) + zPower * Math.sqrt(Math.max(0, discordance - delta * delta))) ** 2 / (delta * delta);
  if (discordance <= 0 || needed(discordance) > questionCount) return undefined;
  // `needed` falls as δ grows
  let low = 0;
  let high = discordance;
  while (high - low > 1e-12) {
    const middle = (low + high) / 2;
    if (needed(middle) > questionCount) low = middle;
    else high = middle;
  }
  return high;
};

/**
 * The smallest true difference that a comparison with this standard error finds with the given power: (t_{1−α/2} + t_power) · SE. The
 * standard error is of the design and the variation seen, not of the effect seen: this is no "observed power".
 */
export const detectableFrom = (standardError: number, degreesOfFreedom: number, options: PowerOptions = {}): number => {
  const { power = 0.8, alpha = 0.05 } = options;
  return (studentQuantile(1 - alpha / 2, degreesOfFreedom) + studentQuantile(power, degreesOfFreedom)) * standardError;
};
