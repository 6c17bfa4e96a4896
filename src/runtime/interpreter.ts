import { InternalError } from '../base/errors.ts';
import type { Graph } from '../graph/graph.ts';
import { describeType, type HostTensor, sameShape, type TensorType } from '../graph/tensor-type.ts';
import type { Value } from '../graph/value.ts';

/**
 * Runs a graph by the references of its ops, slowly: what a program means. In float64 every float32 of the graph, constants included, is
 * widened, so that finite differences have digits to work with; types are otherwise those that were inferred, which is checked.
 */
export const interpret = (
  graph: Graph,
  inputs: Readonly<Record<string, HostTensor>>,
  { float }: { readonly float: 'float32' | 'float64' },
): Record<string, HostTensor> => {
  const results = new Map<Value, HostTensor>();
  const at = (value: Value): HostTensor => {
    const known = results.get(value);
    if (known !== undefined) return known;
    if (value.origin.kind !== 'constant') throw new InternalError('a value is used before the node that makes it');
    const tensor = inFloat(value.origin.tensor, float);
    results.set(value, tensor);
    return tensor;
  };
  for (const [name, value] of graph.inputs) {
    const tensor = inputs[name];
    if (tensor === undefined) throw new InternalError(`no tensor was given for "${name}", ${describeType(value.type)}`);
    results.set(value, checked(name, inFloat(tensor, float), value.type, float));
  }
  for (const node of graph.nodes) {
    const operands = node.inputs.map((value) => (value === undefined ? undefined : at(value)));
    const outputs: readonly (HostTensor | undefined)[] = node.op.reference(operands, node.attributes);
    node.outputs.forEach((value, index) => {
      const tensor = outputs[index];
      if (tensor === undefined) throw new InternalError(`the reference of ${node.op.name} made ${outputs.length} outputs`);
      results.set(value, checked(node.op.name, inFloat(tensor, float), value.type, float));
    });
  }
  return Object.fromEntries([...graph.outputs].map(([name, value]) => [name, at(value)]));
};

/** The tensor itself, or its elements in the float type asked for where it holds floats. */
const inFloat = (tensor: HostTensor, float: 'float32' | 'float64'): HostTensor => {
  if (tensor.dataType === float || !(tensor.data instanceof Float32Array || tensor.data instanceof Float64Array)) return tensor;
  return {
    dataType: float,
    shape: tensor.shape,
    data: float === 'float32' ? Float32Array.from(tensor.data) : Float64Array.from(tensor.data),
  };
};

const checked = (name: string, tensor: HostTensor, type: TensorType, float: 'float32' | 'float64'): HostTensor => {
  const dataType = type.dataType === 'float32' || type.dataType === 'float64' ? float : type.dataType;
  if (tensor.dataType !== dataType || !sameShape(tensor.shape, type.shape)) {
    throw new InternalError(`${name}: came ${describeType(tensor)}, expected ${describeType({ dataType, shape: type.shape })}`);
  }
  return tensor;
};
