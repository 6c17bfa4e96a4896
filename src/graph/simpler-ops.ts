import { type Graph, graphOf } from './graph.ts';
import { apply, type Value } from './value.ts';

/** The same program with every op that has a form in simpler ops (`Op.inSimplerOps`) written so. */
export const inSimplerOps = (graph: Graph): Graph => {
  const replaced = new Map<Value, Value>();
  const current = (value: Value): Value => replaced.get(value) ?? value;
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((value) => value && current(value));
    const isSame = inputs.every((value, index) => value === node.inputs[index]);
    const outputs: readonly Value[] =
      node.op.inSimplerOps?.(inputs, node.attributes) ?? (isSame ? node.outputs : apply(node.op, inputs, node.attributes));
    node.outputs.forEach((value, index) => {
      if (outputs[index] !== value) replaced.set(value, outputs[index] as Value);
    });
  }
  return graphOf(Object.fromEntries([...graph.outputs].map(([name, value]) => [name, current(value)])));
};
