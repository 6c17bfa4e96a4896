import type { Interval } from './proportion.ts';
import type { Measure } from './summary.ts';

/** A share in per cent with one decimal: `12.3`. */
export const percent = (share: number): string => (100 * share).toFixed(1);

/** A probability as people read it: `0.012`, `<0.001`, never a plain 0. */
export const pValueText = (pValue: number): string => (pValue < 0.001 ? '<0.001' : pValue.toFixed(3));

/** With its sign; a true minus, so that it does not look like a hyphen. */
export const signed = (value: number, decimals: number): string => {
  const text = Math.abs(value).toFixed(decimals);
  return Number(text) === 0 ? text : `${value < 0 ? '−' : '+'}${text}`;
};

/** Of differences in a measure: points of 100 for accuracies, nats per token for log-likelihoods. */
export const measureUnits: Record<
  Measure,
  { readonly scale: number; readonly decimals: number; readonly unit: string; readonly noun: string }
> = {
  strict: { scale: 100, decimals: 1, unit: 'points', noun: 'strictly right answers' },
  flexible: { scale: 100, decimals: 1, unit: 'points', noun: 'right answers by the last number' },
  likelihood: { scale: 1, decimals: 3, unit: 'nats per token', noun: 'log-likelihood of gold solutions' },
};

/** `+4.2` */
export const differenceText = (difference: number, measure: Measure): string => {
  const { scale, decimals } = measureUnits[measure];
  return signed(scale * difference, decimals);
};

/** `−1.9 to +2.6` */
export const differenceRange = ({ low, high }: Interval, measure: Measure): string =>
  `${differenceText(low, measure)} to ${differenceText(high, measure)}`;

/** A detectable difference; an accuracy cannot differ by 100 points or more. */
export const detectableText = (detectable: number, measure: Measure): string => {
  const { scale, decimals } = measureUnits[measure];
  return measure !== 'likelihood' && detectable >= 1 ? 'none' : (scale * detectable).toFixed(decimals);
};
