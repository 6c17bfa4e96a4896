import { adamw } from '../optim/adamw.ts';
import { clipFactor, globalNorm } from '../optim/clip.ts';
import type { Arrays, Optimiser, OptimiserState } from '../optim/optimiser.ts';
import { sgd } from '../optim/sgd.ts';
import type { OptimiserSpecification, OptimStepOptions } from './engine.ts';
import { NotFiniteError } from './not-finite.ts';
import { added, type ParameterShapes, scaled } from './parameter-arrays.ts';

/** What a training changes: parameters, accumulated gradients, what the optimiser remembers. It lies on the host or on a device. */
export interface TrainingState {
  /** The parameters that runners are to adopt; absent: they compute with the very tensors that are here. */
  readonly adoptable: Arrays | undefined;
  readonly hasGradients: boolean;
  /** Adds a run's gradients, which become the state's own. */
  add(gradients: Arrays): void;
  /**
   * An optimiser step with what was accumulated, which it uses up.
   * @param stepNumber of the training's steps, the first being 1: for the message of an error
   * @returns the norm of the gradients, divided by the token count, before clipping. Where it is not finite a NotFiniteError is thrown, and
   * nothing changes.
   */
  step(options: OptimStepOptions, stepNumber: number): Promise<number>;
  parameters(): Promise<Arrays>;
  optimiser(): Promise<OptimiserState | undefined>;
  /** Starts from these, with nothing accumulated. */
  begin(parameters: Arrays, optimiser?: OptimiserState): Promise<void>;
  release(): Promise<void>;
}

const optimisers: {
  readonly [Name in OptimiserSpecification['name']]: (options: Extract<OptimiserSpecification, { name: Name }>) => Optimiser;
} = {
  adamw,
  sgd,
};

/** A state in arrays, changed by pure functions: what comes out is the same to the byte wherever it is computed. */
export const hostState = (shapes: ParameterShapes, initial: Arrays): TrainingState => {
  let parameters = initial;
  let optimiser: OptimiserState | undefined;
  let accumulated: Record<string, Float32Array> | undefined;
  return {
    get adoptable() {
      return parameters;
    },
    get hasGradients() {
      return accumulated !== undefined;
    },
    add: (gradients) => {
      accumulated = added(accumulated, gradients);
    },
    step: async ({ optimiser: chosen, learningRate, tokenCount, maximumNorm }, stepNumber) => {
      const sums = accumulated ?? {};
      const norm = finiteNorm(globalNorm(sums) / tokenCount, stepNumber);
      const gradients = scaled(sums, clipFactor(norm, maximumNorm) / tokenCount);
      const rule = (optimisers[chosen.name] as (options: OptimiserSpecification) => Optimiser)(chosen);
      const state = optimiser ?? rule.init(parameters);
      const next = rule.update({ parameters, gradients, state, learningRate, decays: (name) => (shapes.get(name)?.length ?? 0) > 1 });
      parameters = next.parameters;
      optimiser = next.state;
      accumulated = undefined;
      return norm;
    },
    parameters: async () => parameters,
    optimiser: async () => optimiser,
    begin: async (from, remembered) => {
      parameters = from;
      optimiser = remembered;
      accumulated = undefined;
    },
    release: async () => undefined,
  };
};

/** The norm, if the gradients that it is of can be used. */
export const finiteNorm = (norm: number, stepNumber: number): number => {
  if (Number.isFinite(norm)) return norm;
  throw new NotFiniteError(
    `The gradient of step ${stepNumber} is not finite (norm ${norm}). Try a lower learning rate, or clip with maximumNorm.`,
  );
};
