/** Float32 arrays by name: parameters, gradients or moments. */
export type Arrays = Readonly<Record<string, Float32Array>>;

/** What an optimiser remembers: arrays shaped like the parameters, by slot, and the steps taken. */
export interface OptimiserState {
  readonly slots: Readonly<Record<string, Arrays>>;
  readonly stepCount: number;
}

/** A pure optimiser: nothing that goes in is changed. */
export interface Optimiser {
  init(parameters: Arrays): OptimiserState;
  update(step: OptimiserStep): { readonly parameters: Arrays; readonly state: OptimiserState };
}

export interface OptimiserStep {
  readonly parameters: Arrays;
  readonly gradients: Arrays;
  readonly state: OptimiserState;
  readonly learningRate: number;
  /** Whether weight decay touches a parameter: it skips norms and biases, which have one axis. */
  readonly decays: (name: string) => boolean;
}

export const zerosLike = (arrays: Arrays): Arrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, new Float32Array(data.length)]));
