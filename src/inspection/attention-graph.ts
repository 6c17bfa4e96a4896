import { type Graph, graphOf } from '../graph/graph.ts';
import { float32, int32, type Shape } from '../graph/tensor-type.ts';
import { input, type Value } from '../graph/value.ts';
import type { Decoder } from '../models/decoder.ts';
import type { Scope } from '../nn/scope.ts';
import { after } from '../ops/after.ts';
import { rowSums } from './row-sums.ts';

export interface AttentionGraphOptions {
  /** The base and its students, side by side in one batch. */
  readonly subjectCount: number;
  readonly sequence: number;
  /** Of the students' adapters, already scaled; absent where the base is alone. */
  readonly adapter?: { readonly rank: number; readonly targets: readonly string[] };
}

export const sumsName = (layer: number): string => `sums.${layer}`;

/** One text through all subjects: each layer's maps as the sums of their rows, `sums.L` [sums, subjects, heads, sequence]. */
export const attentionGraph = (decoder: Decoder, { subjectCount, sequence, adapter }: AttentionGraphOptions): Graph => {
  const parameters = new Map<string, Value>();
  const parameter = (name: string, shape: Shape): Value => {
    const known = parameters.get(name) ?? input(name, float32(...shape));
    parameters.set(name, known);
    return known;
  };
  const { rank = 1, targets = [] } = adapter ?? {};
  const scope: Scope = { parameter, adapter: { rank, alpha: rank, targets: new Set(targets), adapterCount: subjectCount } };
  const sums: Value[] = [];
  let previousRest: Value | undefined;
  decoder.forward(scope, input('tokens', int32(subjectCount, sequence)), {
    tap: (name, map) => {
      if (!name.startsWith('attention.')) return;
      const layer = rowSums(map, previousRest);
      sums.push(layer.sums);
      previousRest = layer.rest;
    },
    // Else every layer's maps would be held to the end.
    throughLayer: (layer, hidden) => after(layer(hidden), sums.at(-1) as Value),
  });
  return graphOf(Object.fromEntries(sums.map((value, layer) => [sumsName(layer), value])));
};
