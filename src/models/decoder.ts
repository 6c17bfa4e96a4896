import type { Shape } from '../graph/tensor-type.ts';
import type { Value } from '../graph/value.ts';
import type { Scope } from '../nn/scope.ts';

/** A language model of a known family and size, as functions that trace it. It holds no weights: a scope gives them. */
export interface Decoder {
  readonly architecture: string;
  readonly vocabularySize: number;
  /** Positions that the model was made for. */
  readonly contextLength: number;
  readonly width: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly kvHeadCount: number;
  readonly headWidth: number;
  /** Standard deviation of random initial weights. */
  readonly initializerRange: number;
  /** Every parameter by its name in checkpoints. */
  readonly parameters: ReadonlyMap<string, Shape>;
  /** Linear layers that adapters can sit on, by their full names, with [outputs, inputs]. */
  readonly linearModules: ReadonlyMap<string, readonly [number, number]>;
  /** The same modules, those together that see one input, in the order in which the model asks for them. */
  readonly linearGroups: readonly (readonly string[])[];
  /** The head's matrix, by its name in checkpoints. */
  readonly headName: string;
  /** Whether the head's matrix is the embedding's, so that checkpoints hold no `lm_head.weight`. */
  readonly tiedEmbeddings: boolean;
  /**
   * The whole sequence at once.
   * @param tokens int32 [batch, sequence]
   * @returns what the last layer put out, before the final norm, [batch · sequence, width], and each layer's rotated keys and values
   */
  forward(scope: Scope, tokens: Value, options?: ForwardOptions): { readonly hidden: Value; readonly keyValues: readonly KeyValue[] };
  /** Logits of chosen rows of `forward`'s hidden values: [rows, width] to [rows, vocabulary]. */
  logits(scope: Scope, hidden: Value): Value;
  /** −log p(target) for chosen rows of `forward`'s hidden values: [rows, width] and int32 [rows], to [rows]. */
  negativeLogLikelihood(scope: Scope, hidden: Value, targets: Value): Value;
  /**
   * One more token for each sequence of a batch, given a key-value cache, which is only read: the token's own keys and values come out, for
   * the caller to lay into it. (Node's binding copies every output of a run, so a cache that came out would be copied at every token.)
   * @returns logits [batch, vocabulary], and each layer's rotated keys and values, [batch, kvHeads, 1, headWidth]
   */
  decodeStep(scope: Scope, inputs: DecodeInputs): { readonly logits: Value; readonly keyValues: readonly KeyValue[] };
}

export interface KeyValue {
  /** [batch, kvHeads, positions, headWidth]; in a cache [batch, kvHeads, headWidth, capacity], as the products want it. */
  readonly key: Value;
  /** [batch, kvHeads, positions, headWidth] */
  readonly value: Value;
}

export interface DecodeInputs {
  /** int32 [batch, 1] */
  readonly tokens: Value;
  /** int64 [batch, 1]: where each token stands, which is how many positions of its sequence the cache holds. */
  readonly positions: Value;
  /** [batch, 1, 1, capacity]: 0 where the cache is filled, a large negative number where not. */
  readonly mask: Value;
  readonly cache: readonly KeyValue[];
}

export interface ForwardOptions {
  /** Absent: each sequence is one row. */
  readonly packing?: Packing;
  /** Keys and values of each layer, of positions that stand before every row, and that all see; the rows' own positions go on from them. */
  readonly prefix?: readonly KeyValue[];
  /** Hears of inner values by name: `hidden.L`, [batch · sequence, width] after L layers, and `attention.L`, [batch, heads, sequence, sequence]. */
  readonly tap?: (name: string, value: Value) => void;
  /** Takes hidden values through a layer, in place of tracing it as it is: for whoever wants it tied to something, or computed once more. */
  readonly throughLayer?: (layer: (hidden: Value) => Value, hidden: Value) => Value;
}

/** Several rows one after the other in a sequence: none sees another, and the positions of each count from 0. */
export interface Packing {
  /** int64 [batch, sequence]: where each token stands in its row, its prefix counted. */
  readonly positions: Value;
  /** float32 [batch, sequence]: where in the sequence each token's row begins. */
  readonly starts: Value;
}
