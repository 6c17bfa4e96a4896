import { type Graph, graphOf } from './graph.ts';
import { apply, type Node, type Value } from './value.ts';

/** What takes the place of parts of a program; undefined leaves a part as it is. */
export interface Rewriting {
  readonly input?: (name: string, value: Value) => Value | undefined;
  /** @param inputs the node's, as they have become */
  readonly node?: (node: Node, inputs: readonly (Value | undefined)[]) => readonly Value[] | undefined;
}

/** Each of a program's outputs with parts of what leads to it replaced. */
export const rewrittenOutputs = (graph: Graph, { input, node: replace }: Rewriting): Record<string, Value> => {
  const replaced = new Map<Value, Value>();
  const current = (value: Value): Value => replaced.get(value) ?? value;
  for (const [name, value] of graph.inputs) replaced.set(value, input?.(name, value) ?? value);
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((value) => value && current(value));
    const isSame = inputs.every((value, index) => value === node.inputs[index]);
    const outputs: readonly Value[] = replace?.(node, inputs) ?? (isSame ? node.outputs : apply(node.op, inputs, node.attributes));
    node.outputs.forEach((value, index) => {
      if (outputs[index] !== value) replaced.set(value, outputs[index] as Value);
    });
  }
  return Object.fromEntries([...graph.outputs].map(([name, value]) => [name, current(value)]));
};

/** The same program with every op that has a form in simpler ops (`Op.inSimplerOps`) written so. */
export const inSimplerOps = (graph: Graph): Graph =>
  graphOf(rewrittenOutputs(graph, { node: (node, inputs) => node.op.inSimplerOps?.(inputs, node.attributes) }));
