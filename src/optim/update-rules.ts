import { scalar, type Value } from '../graph/value.ts';
import { add, div, mul, sqrt, square, sub } from '../ops/elementwise.ts';
import type { AdamwOptions } from './adamw.ts';
import type { SgdOptions } from './sgd.ts';

/** An optimiser as a program, for parameters that lie on a device: the rules of `adamw` and `sgd` in float32. */
export interface UpdateRule {
  /** Names of what it remembers, each shaped like the parameters. */
  readonly slots: readonly string[];
  /** Numbers that change from step to step, by the names that `update` asks for. `stepCount` counts the step that is taken. */
  numbers(step: UpdateStep): Readonly<Record<string, number>>;
  /** @param number one of the step's numbers, as a scalar */
  update(
    values: UpdateValues,
    number: (name: string) => Value,
  ): { readonly parameters: Value; readonly slots: Readonly<Record<string, Value>> };
}

export interface UpdateStep {
  readonly learningRate: number;
  readonly stepCount: number;
}

export interface UpdateValues {
  readonly parameters: Value;
  readonly gradients: Value;
  readonly slots: Readonly<Record<string, Value>>;
  /** Whether weight decay touches these parameters. */
  readonly decays: boolean;
}

/** The input that a number is given as. */
export const numberName = (name: string): string => `number:${name}`;

export const adamwUpdate = ({ beta1, beta2, epsilon, weightDecay }: AdamwOptions): UpdateRule => ({
  slots: ['m', 'v'],
  numbers: ({ learningRate, stepCount }) => ({
    kept: 1 - learningRate * weightDecay,
    stepSize: learningRate / (1 - beta1 ** stepCount),
    rootCorrection: Math.sqrt(1 - beta2 ** stepCount),
  }),
  update: ({ parameters, gradients: g, slots, decays }, number) => {
    const m = add(mul(slots.m as Value, scalar(beta1)), mul(g, scalar(1 - beta1)));
    const v = add(mul(slots.v as Value, scalar(beta2)), mul(square(g), scalar(1 - beta2)));
    const change = div(mul(m, number('stepSize')), add(div(sqrt(v), number('rootCorrection')), scalar(epsilon)));
    return { parameters: sub(decays ? mul(parameters, number('kept')) : parameters, change), slots: { m, v } };
  },
});

export const sgdUpdate = ({ momentum, weightDecay }: SgdOptions): UpdateRule => ({
  slots: ['momentum'],
  numbers: ({ learningRate }) => ({ learningRate }),
  update: ({ parameters, gradients, slots, decays }, number) => {
    const decayed = decays ? add(gradients, mul(parameters, scalar(weightDecay))) : gradients;
    const b = add(mul(slots.momentum as Value, scalar(momentum)), decayed);
    return { parameters: sub(parameters, mul(b, number('learningRate'))), slots: { momentum: b } };
  },
});
