import type { Prices } from '../teachers/prices.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import type { Limits } from './rate-limiter.ts';
import type { Response } from './response.ts';
import { costUsd } from './spending.ts';

/** A range that holds the true value about 19 times in 20. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

/** What answers will cost and how long they will take. */
export interface Estimate {
  readonly answerCount: number;
  readonly promptTokens: Range;
  readonly completionTokens: Range;
  /** Absent where prices are not known. */
  readonly usd?: Range;
  readonly durationMs?: Range;
  /** Handed in as batches. */
  readonly isBatch?: boolean;
  /** Answers that the ranges were measured on; 0: they are bounds, from a byte a token and the token limit. */
  readonly sampleCount: number;
}

export interface EstimateOptions {
  /** All that is still to be asked. */
  readonly planned: readonly PlannedAnswer[];
  /** Answers of the same teacher under the same strategy, bought first; they are kept and not bought again. */
  readonly sample: readonly Response[];
  /** The requests of the sample, by their keys. */
  readonly sampled: readonly PlannedAnswer[];
  readonly prices?: Prices | undefined;
  readonly concurrency: number;
  readonly limits?: Limits;
  /** In batches nobody knows how long it takes, but that it takes a day at most. */
  readonly isBatch?: boolean;
}

/** Prompts by the sample's tokens per byte, completions by its mean length, each with its sampling error (Student's t). */
export const estimateCollection = (options: EstimateOptions): Estimate => {
  const { planned, sample, sampled, prices, concurrency, limits = {}, isBatch = false } = options;
  const about = isBatch ? { isBatch } : {};
  const count = planned.length;
  const bytes = planned.map(byteCount);
  const totalBytes = sum(bytes);
  const byKey = new Map(sampled.map((item) => [item.requestKey, item]));
  const measured = sample.flatMap(({ requestKey, usage, latencyMs }) => {
    const item = byKey.get(requestKey);
    return item === undefined || usage === undefined ? [] : [{ bytes: byteCount(item), usage, latencyMs }];
  });
  if (measured.length < 2) {
    const limit = sum(planned.map(({ sampling }) => sampling.maximumTokens));
    const bounds = {
      promptTokens: { low: Math.ceil(totalBytes / 8), high: totalBytes + 8 * count },
      completionTokens: { low: count, high: limit },
    };
    return { answerCount: count, ...bounds, ...usdOf(bounds, prices), ...about, sampleCount: 0 };
  }
  const ratio = sum(measured.map(({ usage }) => usage.promptTokens)) / sum(measured.map((item) => item.bytes));
  const meanBytes = totalBytes / Math.max(1, count);
  // What a prompt has more or less than the ratio says, as a share of an average prompt.
  const residuals = measured.map((item) => item.usage.promptTokens - ratio * item.bytes);
  const promptTokens = around(ratio * totalBytes, errorOfTotal(residuals, count), measured.length);
  const lengths = measured.map(({ usage }) => usage.completionTokens);
  const completionTokens = around(count * mean(lengths), errorOfTotal(lengths, count), measured.length);
  const latencies = measured.map(({ latencyMs }) => latencyMs);
  const byLatency = around((count / concurrency) * mean(latencies), errorOfTotal(latencies, count) / concurrency, measured.length);
  const tokensOf = (end: keyof Range): number => promptTokens[end] + completionTokens[end];
  const durationOf = (end: keyof Range): number =>
    Math.max(
      byLatency[end],
      (60_000 * count) / (limits.requestsPerMinute ?? Number.POSITIVE_INFINITY),
      (60_000 * tokensOf(end)) / (limits.tokensPerMinute ?? Number.POSITIVE_INFINITY),
    );
  return {
    answerCount: count,
    promptTokens,
    completionTokens,
    ...usdOf({ promptTokens, completionTokens }, prices),
    ...about,
    ...(meanBytes > 0 && !isBatch && { durationMs: { low: durationOf('low'), high: durationOf('high') } }),
    sampleCount: measured.length,
  };
};

/** @example estimateText(estimate) // '1,000 answers: about $3.10 to $4.40, 24 to 26 minutes (measured on 12 answers)' */
export const estimateText = (
  { answerCount, usd, promptTokens, completionTokens, durationMs, isBatch = false, sampleCount }: Estimate,
  limits: Limits = {},
): string => {
  const number = (value: number): string => Math.round(value).toLocaleString('en');
  const money = (value: number): string => `$${value.toFixed(value < 0.1 ? 4 : 2)}`;
  const between = (range: Range, text: (value: number) => string): string =>
    text(range.low) === text(range.high) ? text(range.high) : `${text(range.low)} to ${text(range.high)}`;
  const minutes = (value: number): string => number(Math.max(1, value / 60_000));
  const pace = limits.requestsPerMinute === undefined ? '' : ` at ${number(limits.requestsPerMinute)} requests a minute`;
  const parts = [
    ...(usd === undefined ? [] : [`about ${between(usd, money)}`]),
    `${between(promptTokens, number)} tokens of prompts and ${between(completionTokens, number)} of answers`,
    ...(isBatch ? ['in batches, which take a day at most'] : []),
    ...(durationMs === undefined
      ? []
      : [`${between(durationMs, minutes)} ${minutes(durationMs.high) === '1' ? 'minute' : 'minutes'}${pace}`]),
  ];
  const basis = sampleCount === 0 ? 'bounds: nothing was measured yet' : `measured on ${number(sampleCount)} answers, which are kept`;
  return `${number(answerCount)} answers: ${parts.join(', ')} (${basis})`;
};

const usdOf = (
  { promptTokens, completionTokens }: Pick<Estimate, 'promptTokens' | 'completionTokens'>,
  prices: Prices | undefined,
): { usd?: Range } => {
  if (prices === undefined) return {};
  const at = (end: keyof Range): number => costUsd({ promptTokens: promptTokens[end], completionTokens: completionTokens[end] }, prices);
  return { usd: { low: at('low'), high: at('high') } };
};

const byteCount = (item: PlannedAnswer): number => sum(item.messages().map(({ content }) => Buffer.byteLength(content)));

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const mean = (values: readonly number[]): number => sum(values) / values.length;

/** Of the sum of `count` further values, by the n that were seen: s · count · √(1/n + 1/count), for the mean and for the values themselves. */
const errorOfTotal = (seen: readonly number[], count: number): number => {
  const center = mean(seen);
  const variance = sum(seen.map((value) => (value - center) ** 2)) / (seen.length - 1);
  return Math.sqrt(variance * (count ** 2 / seen.length + count));
};

const around = (value: number, error: number, count: number): Range => {
  const half = studentT(count - 1) * error;
  return { low: Math.max(0, value - half), high: value + half };
};

/** The 97.5 % point of Student's t: Cornish–Fisher expansion around z = 1.96 (Abramowitz and Stegun 26.7.5). */
const studentT = (degrees: number): number => {
  const z = 1.959964;
  return z + (z ** 3 + z) / (4 * degrees) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2);
};
