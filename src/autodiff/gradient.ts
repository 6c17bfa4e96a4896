import { InternalError } from '../base/errors.ts';
import { nodesBefore } from '../graph/graph.ts';
import { describeType, elementCount, sameShape } from '../graph/tensor-type.ts';
import { type Node, scalar, type Value, type VjpArguments } from '../graph/value.ts';
import { expand } from '../ops/broadcasting.ts';
import { add } from '../ops/elementwise.ts';

/**
 * Reverse-mode differentiation, graph to graph: the derivative of a scalar with respect to each of `parameters`, as values of a longer
 * graph that shares the forward part. Nothing is computed here. A parameter that the loss does not depend on gets zeros. Parameters are independent
 * of each other: nothing flows through one of them to what it was made of.
 *
 * @param loss a float32 scalar
 * @param seed the loss's own cotangent, where it is not 1 (a chain across programs); its shape is the loss's, which need then not be scalar
 */
export const gradient = (loss: Value, parameters: readonly Value[], seed?: Value): Value[] => {
  if (seed === undefined && elementCount(loss.type.shape) !== 1) {
    throw new InternalError(`the gradient of ${describeType(loss.type)}, which is no scalar, wants a seed`);
  }
  const wanted = new Set(parameters);
  const nodes = nodesBefore([loss], wanted);
  const dependent = dependentNodes(nodes, wanted);
  const isActive = (value: Value | undefined): boolean =>
    value !== undefined && (wanted.has(value) || (value.origin.kind === 'node' && dependent.has(value.origin.node)));
  const cotangents = new Map<Value, Value>();
  const receive = (value: Value, cotangent: Value): void => {
    if (!sameShape(value.type.shape, cotangent.type.shape)) {
      throw new InternalError(`a gradient of ${describeType(cotangent.type)} for a value of ${describeType(value.type)}`);
    }
    const known = cotangents.get(value);
    cotangents.set(value, known === undefined ? cotangent : add(known, cotangent));
  };
  receive(loss, seed ?? filled(loss, 1));
  for (const node of nodes.reverse()) {
    if (!dependent.has(node)) continue;
    const flowing = node.outputs.map((value) => cotangents.get(value));
    if (flowing.every((value) => value === undefined)) continue;
    const contributions = backward(node, flowing, (index) => isActive(node.inputs[index]));
    contributions.forEach((contribution, index) => {
      const value = node.inputs[index];
      if (contribution !== undefined && value !== undefined && isActive(value)) receive(value, contribution);
    });
  }
  return parameters.map((parameter) => cotangents.get(parameter) ?? filled(parameter, 0));
};

/** One application of an op, backwards. */
const backward = (
  node: Node,
  cotangents: readonly (Value | undefined)[],
  wants: (index: number) => boolean,
): readonly (Value | undefined)[] => {
  const rule = node.op.gradient;
  if (rule.kind === 'none') return [];
  const application: VjpArguments<readonly (Value | undefined)[], readonly Value[], object> = {
    inputs: node.inputs,
    outputs: node.outputs,
    attributes: node.attributes,
    cotangents,
    get cotangent() {
      const [first] = cotangents;
      if (first === undefined) throw new InternalError(`nothing flows back into the first output of ${node.op.name}`);
      return first;
    },
    wants,
  };
  return rule.vjp(application);
};

/** The nodes that some parameter flows into through ops that have a gradient. */
const dependentNodes = (nodes: readonly Node[], parameters: ReadonlySet<Value>): ReadonlySet<Node> => {
  const dependent = new Set<Node>();
  for (const node of nodes) {
    const reached = node.inputs.some(
      (value) => value !== undefined && (parameters.has(value) || (value.origin.kind === 'node' && dependent.has(value.origin.node))),
    );
    if (reached && node.op.gradient.kind !== 'none') dependent.add(node);
  }
  return dependent;
};

const filled = (like: Value, value: number): Value => expand(scalar(value), like.type.shape);
