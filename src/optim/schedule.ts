export const scheduleNames = ['constant', 'linear', 'cosine'] as const;
export type ScheduleName = (typeof scheduleNames)[number];

export interface ScheduleOptions {
  readonly name: ScheduleName;
  readonly learningRate: number;
  readonly stepCount: number;
  /** Steps over which the rate rises linearly from 0; the first step already takes one share. */
  readonly warmupStepCount: number;
}

/** What is left of the peak rate when a share of the way after the warm-up is done; each falls to 0 at the end, but the constant one. */
const decay: Readonly<Record<ScheduleName, (share: number) => number>> = {
  constant: () => 1,
  linear: (share) => 1 - share,
  cosine: (share) => (1 + Math.cos(Math.PI * share)) / 2,
};

/** The learning rate of step `step`, counted from 0. */
export const learningRateAt = (step: number, { name, learningRate, stepCount, warmupStepCount }: ScheduleOptions): number => {
  if (step < warmupStepCount) return (learningRate * (step + 1)) / warmupStepCount;
  const share = (step - warmupStepCount) / Math.max(1, stepCount - warmupStepCount);
  return learningRate * decay[name](Math.min(1, share));
};
