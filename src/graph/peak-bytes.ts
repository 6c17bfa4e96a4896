import type { Graph } from './graph.ts';
import { bytesPerElement, elementCount } from './tensor-type.ts';
import type { Node, Value } from './value.ts';

/**
 * The most memory that a graph's own results take at once when its nodes run in their order and each result is freed after its last use;
 * inputs and constants are not counted. An estimate of what a compiled program holds on to: its runtime may do better by computing in place,
 * and worse by rounding allocations up.
 */
export const peakBytes = (graph: Graph): number => {
  const lastUse = new Map<Value, number>();
  graph.nodes.forEach((node, index) => {
    for (const value of node.outputs) lastUse.set(value, index);
    for (const value of node.inputs) if (value !== undefined) lastUse.set(value, index);
  });
  for (const value of graph.outputs.values()) lastUse.set(value, graph.nodes.length);
  const freedAfter = new Map<number, Value[]>();
  for (const [value, index] of lastUse) {
    if (value.origin.kind === 'node') freedAfter.set(index, [...(freedAfter.get(index) ?? []), value]);
  }
  let live = 0;
  let peak = 0;
  graph.nodes.forEach((node: Node, index) => {
    for (const value of node.outputs) live += bytesOf(value);
    peak = Math.max(peak, live);
    for (const value of freedAfter.get(index) ?? []) live -= bytesOf(value);
  });
  return peak;
};

const bytesOf = (value: Value): number => {
  if (value.origin.kind === 'node' && value.origin.node.op.isView === true) return 0;
  return elementCount(value.type.shape) * bytesPerElement[value.type.dataType];
};
