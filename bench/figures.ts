/** One measurement of one contestant. */
export interface Measurement {
  readonly tokensPerSecond: number;
  readonly peakMemoryBytes: number;
}

/** A contestant's measurements, a round each; empty where it could not run, and then `failure` says why. */
export interface Contestant {
  readonly name: string;
  readonly measurements: readonly Measurement[];
  readonly failure?: string;
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

export const medianSpeed = ({ measurements }: Contestant): number => median(measurements.map(({ tokensPerSecond }) => tokensPerSecond));

/** The fastest by its median; undefined where none has run. */
export const fastest = (contestants: readonly Contestant[]): Contestant | undefined =>
  contestants.filter(({ measurements }) => measurements.length > 0).toSorted((a, b) => medianSpeed(b) - medianSpeed(a))[0];

export const speedOf = ({ tokensPerSecond }: Measurement): number => tokensPerSecond;
export const peakMemoryOf = ({ peakMemoryBytes }: Measurement): number => peakMemoryBytes;

/**
 * The median over rounds of ours / theirs within a round, since a machine's speed wanders between rounds; undefined where there is nothing
 * to compare.
 */
export const pairedRatio = (
  ours: Contestant | undefined,
  theirs: Contestant | undefined,
  of: (measurement: Measurement) => number,
): number | undefined => {
  const ratios = (ours?.measurements ?? []).flatMap((measurement, round) => {
    const other = theirs?.measurements[round];
    return other === undefined ? [] : [of(measurement) / of(other)];
  });
  return ratios.length === 0 ? undefined : median(ratios);
};

const range = (values: readonly number[], digits: number): string =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;

/** Median and range of speed and peak memory, as Markdown. */
export const table = (contestants: readonly Contestant[]): string[] => [
  '| | tokens/s, median (range) | peak GB |',
  '| --- | --- | --- |',
  ...contestants.map(({ name, measurements, failure }) =>
    measurements.length === 0
      ? `| ${name} | did not run: ${failure ?? 'unknown'} | |`
      : `| ${name} | ${range(
          measurements.map(({ tokensPerSecond }) => tokensPerSecond),
          1,
        )} | ${(median(measurements.map(({ peakMemoryBytes }) => peakMemoryBytes)) / 1e9).toFixed(2)} |`,
  ),
];

export interface Target {
  readonly name: string;
  /** undefined where there was nothing to compare with. */
  readonly measured: number | undefined;
  readonly bound: 'at least' | 'at most';
  readonly value: number;
  /** Absent: a ratio, `×`. */
  readonly unit?: string;
}

/** `train, float32: measured 1.8×, target ≥ 2×, missed`. */
export const targetLine = ({ name, measured, bound, value, unit = '×' }: Target): string => {
  const sign = bound === 'at least' ? '≥' : '≤';
  if (measured === undefined) return `${name}: not measured, target ${sign} ${value}${unit}`;
  const met = bound === 'at least' ? measured >= value : measured <= value;
  return `${name}: measured ${Number(measured.toFixed(2))}${unit}, target ${sign} ${value}${unit}, ${met ? 'met' : 'missed'}`;
};
