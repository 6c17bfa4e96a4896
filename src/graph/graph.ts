import { InternalError } from '../base/errors.ts';
import { describeType, type TensorType } from './tensor-type.ts';
import type { Node, Value } from './value.ts';

/** A traced program: named inputs and named outputs. Whatever the outputs do not need is not part of it. */
export interface Graph {
  readonly inputs: ReadonlyMap<string, Value>;
  readonly outputs: ReadonlyMap<string, Value>;
  /** Every application that the outputs need, each after those whose results it takes. */
  readonly nodes: readonly Node[];
}

/** Collects what the outputs need. Two inputs of one name that are not one value are refused. */
export const graphOf = (outputs: Readonly<Record<string, Value>>): Graph => {
  const values = Object.values(outputs);
  const nodes = nodesBefore(values);
  const inputs = new Map<string, Value>();
  const note = (value: Value | undefined): void => {
    if (value?.origin.kind !== 'input') return;
    const known = inputs.get(value.origin.name);
    if (known !== undefined && known !== value) throw new InternalError(`two inputs are called "${value.origin.name}"`);
    inputs.set(value.origin.name, value);
  };
  for (const node of nodes) node.inputs.forEach(note);
  values.forEach(note);
  return { inputs, outputs: new Map(Object.entries(outputs)), nodes };
};

/**
 * The nodes that the values need, in an order in which they can run; what stands before a value of `known` is not looked at. Without recursion:
 * graphs are thousands of nodes deep.
 */
export const nodesBefore = (values: readonly Value[], known: ReadonlySet<Value> = new Set()): Node[] => {
  const order: Node[] = [];
  const state = new Map<Node, 'open' | 'done'>();
  const stack: Node[] = [];
  const push = (value: Value | undefined): void => {
    if (value?.origin.kind === 'node' && !known.has(value) && !state.has(value.origin.node)) stack.push(value.origin.node);
  };
  for (const value of values) {
    push(value);
    while (stack.length > 0) {
      const node = stack[stack.length - 1] as Node;
      if (state.get(node) === undefined) {
        state.set(node, 'open');
        for (let index = node.inputs.length - 1; index >= 0; index--) push(node.inputs[index]);
      } else {
        stack.pop();
        if (state.get(node) === 'open') {
          state.set(node, 'done');
          order.push(node);
        }
      }
    }
  }
  return order;
};

/** The program as text, a line per node: for reading and for golden comparisons. */
export const printGraph = (graph: Graph): string => {
  const names = new Map<Value, string>();
  for (const [name, value] of graph.inputs) names.set(value, name);
  let count = 0;
  const nameOf = (value: Value | undefined): string => {
    if (value === undefined) return '-';
    const known = names.get(value);
    if (known !== undefined) return known;
    const tensor = value.origin.kind === 'constant' ? value.origin.tensor : undefined;
    const name = tensor === undefined ? `%${count++}` : tensor.data.length === 1 ? String(tensor.data[0]) : `const${describeType(tensor)}`;
    names.set(value, name);
    return name;
  };
  const typed = (value: { type: TensorType }): string => describeType(value.type);
  const lines = [...graph.inputs].map(([name, value]) => `input ${name}: ${typed(value)}`);
  for (const node of graph.nodes) {
    const operands = node.inputs.map(nameOf).join(', ');
    const attributes = Object.keys(node.attributes).length === 0 ? '' : ` ${JSON.stringify(node.attributes)}`;
    lines.push(
      `${node.outputs.map((value) => `${nameOf(value)}: ${typed(value)}`).join(', ')} = ${node.op.name}(${operands})${attributes}`,
    );
  }
  for (const [name, value] of graph.outputs) lines.push(`output ${name} = ${nameOf(value)}`);
  return lines.join('\n');
};
