import type { Value } from '../graph/value.ts';

/** Where layers get their parameters: by the names that checkpoints use, with the shape the layer needs. */
export interface Scope {
  parameter(name: string, shape: readonly number[]): Value;
  /** Products with frozen matrices that are held in fewer bits; absent: every matrix is a float32 parameter. */
  readonly frozen?: FrozenProducts;
  /** −log p of each target under softmax(x·Eᵀ) with such a head E, by its name: x [tokens, inputs], targets int32 [tokens], to [tokens]. */
  readonly frozenLikelihood?: (head: string, x: Value, targets: Value, vocabularySize: number) => Value;
  /** Adapters on chosen linear layers; absent: none. */
  readonly adapter?: AdapterScope;
}

/** A linear layer by its name in checkpoints, such as `model.layers.0.self_attn.q_proj`, and the number of its outputs. */
export interface LinearModule {
  readonly module: string;
  readonly outputCount: number;
  /** Its inputs have outliers: rounded to one byte, everything beside them is lost. */
  readonly hasOutliers?: boolean;
}

/** x·Wᵀ for each of the modules, which share their input x [rows, inputs]: [rows, outputs] each. */
export type FrozenProducts = (modules: readonly LinearModule[], x: Value) => readonly Value[];

/** LoRA (Hu et al. 2021): W·x + (alpha / rank)·B·A·x on the modules whose last name is among the targets. */
export interface AdapterScope {
  readonly rank: number;
  readonly alpha: number;
  readonly targets: ReadonlySet<string>;
  /**
   * Several adapters side by side: the rows are so many equal parts, each put through its own A and B, [adapters, rank, inputs] and
   * [adapters, outputs, rank]. Absent: one adapter for all rows.
   */
  readonly adapterCount?: number;
  /** Multiplies the adapter's input while training: 0 or 1/(1−p), [rows, inputs]; absent: no dropout. */
  dropoutMask?(module: string, shape: readonly number[]): Value;
}

export const loraNames = (module: string): { readonly a: string; readonly b: string } => ({
  a: `${module}.lora_A.weight`,
  b: `${module}.lora_B.weight`,
});

/** Whether a module (`model.layers.0.self_attn.q_proj`) is one that the adapter sits on. */
export const isAdapted = (module: string, targets: ReadonlySet<string>): boolean => targets.has(module.slice(module.lastIndexOf('.') + 1));
