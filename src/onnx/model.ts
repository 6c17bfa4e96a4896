import { InternalError } from '../base/errors.ts';
import type { Graph } from '../graph/graph.ts';
import { describeType, type HostTensor, sameShape, type TensorType } from '../graph/tensor-type.ts';
import type { Node, OnnxAttribute, OnnxNode, Value } from '../graph/value.ts';
import { onnxTypeCodes } from '../ops/onnx-constants.ts';
import { MessageWriter } from './protobuf.ts';

/** Where the bytes of a weight lie: in a file beside the model, so that ONNX Runtime maps them rather than copies. */
export interface ExternalWeight {
  /** A file name relative to the model's own folder. */
  readonly location: string;
  readonly offset: number;
  readonly byteLength: number;
}

/** Inputs of the graph that become initialisers, by name: their bytes, or where they lie. */
export type Weights = ReadonlyMap<string, HostTensor | ExternalWeight>;

// Field numbers are those of onnx.proto3; IR version 10 came with the standard operator set 21.
const irVersion = 10;
const standardOpset = 21;

/** A graph as the bytes of an ONNX model. Its inputs and outputs keep their names; inputs among `weights` become initialisers. */
export const writeOnnx = (graph: Graph, weights: Weights = new Map()): Uint8Array => {
  const names = new Map<Value, string>();
  const constants = new Map<HostTensor, string>();
  const given = new Set([...graph.inputs.keys(), ...graph.outputs.keys()]);
  /** A name for something inside, which no input and no output of the graph has. */
  const inner = (name: string): string => (given.has(name) ? inner(`${name}_`) : name);
  const graphProto = new MessageWriter().string(2, 'retort');

  const nameOfConstant = (tensor: HostTensor): string => {
    const known = constants.get(tensor);
    if (known !== undefined) return known;
    const name = inner(`constant_${constants.size}`);
    constants.set(tensor, name);
    graphProto.message(5, tensorProto(name, tensor));
    return name;
  };
  const nameOf = (value: Value | undefined): string => {
    if (value === undefined) return '';
    if (value.origin.kind === 'constant') return nameOfConstant(value.origin.tensor);
    const name = names.get(value);
    if (name === undefined) throw new InternalError('a value is used before the node that makes it');
    return name;
  };

  for (const [name, value] of graph.inputs) {
    names.set(value, name);
    const weight = weights.get(name);
    if (weight === undefined) graphProto.message(11, valueInfo(name, value.type));
    else graphProto.message(5, weightProto(name, value.type, weight));
  }
  for (const [name, value] of graph.outputs) {
    if (value.origin.kind === 'node' && !names.has(value)) names.set(value, name);
    graphProto.message(12, valueInfo(name, value.type));
  }
  graph.nodes.forEach((node, nodeIndex) => {
    const form = node.op.toOnnx(
      node.attributes,
      node.inputs.map((value) => value?.type),
    );
    if ('aliases' in form) {
      node.outputs.forEach((value, outputIndex) => {
        const from = nameOf(node.inputs[form.aliases[outputIndex] as number]);
        // An output of the graph has a name already, and Identity gives it to what lies under another.
        const known = names.get(value);
        if (known === undefined) names.set(value, from);
        else graphProto.message(1, identity(from, known));
      });
      return;
    }
    node.outputs.forEach((value, outputIndex) => {
      if (!names.has(value)) names.set(value, inner(`${node.op.name}_${nodeIndex}_${outputIndex}`));
    });
    graphProto.message(1, nodeProto(node, form, `${node.op.name}_${nodeIndex}`, nameOf, nameOfConstant));
  });
  // An output that is an input, a constant or already another output has a name of its own: Identity gives it a second.
  for (const [name, value] of graph.outputs) {
    if (nameOf(value) !== name) graphProto.message(1, identity(nameOf(value), name));
  }
  return new MessageWriter()
    .varint(1, irVersion)
    .string(2, 'retort')
    .message(7, graphProto)
    .message(8, new MessageWriter().string(1, '').varint(2, standardOpset))
    .message(8, new MessageWriter().string(1, 'com.microsoft').varint(2, 1))
    .finish();
};

const nodeProto = (
  node: Node,
  form: OnnxNode,
  name: string,
  nameOf: (value: Value | undefined) => string,
  nameOfConstant: (tensor: HostTensor) => string,
): MessageWriter => {
  const proto = new MessageWriter();
  const operands = form.inputs ?? node.inputs.map((_, index) => index);
  const operandNames = operands.map((operand) =>
    operand === undefined ? '' : typeof operand === 'number' ? nameOf(node.inputs[operand]) : nameOfConstant(operand),
  );
  while (operandNames.at(-1) === '') operandNames.pop();
  for (const operand of operandNames) proto.string(1, operand);
  for (const output of node.outputs) proto.string(2, nameOf(output));
  proto.string(3, name).string(4, form.opType);
  for (const [attribute, value] of Object.entries(form.attributes ?? {})) proto.message(5, attributeProto(attribute, value));
  return form.domain ? proto.string(7, form.domain) : proto;
};

const identity = (from: string, to: string): MessageWriter =>
  new MessageWriter().string(1, from).string(2, to).string(3, `name_${to}`).string(4, 'Identity');

const attributeProto = (name: string, attribute: OnnxAttribute): MessageWriter => {
  const proto = new MessageWriter().string(1, name);
  if ('float' in attribute) return proto.float(2, attribute.float).varint(20, 1);
  if ('int' in attribute) return proto.varint(3, attribute.int).varint(20, 2);
  if ('string' in attribute) return proto.string(4, attribute.string).varint(20, 3);
  if ('floats' in attribute) {
    for (const value of attribute.floats) proto.float(7, value);
    return proto.varint(20, 6);
  }
  for (const value of attribute.ints) proto.varint(8, value);
  return proto.varint(20, 7);
};

const valueInfo = (name: string, type: TensorType): MessageWriter => {
  const shape = new MessageWriter();
  for (const size of type.shape) shape.message(1, new MessageWriter().varint(1, size));
  const tensorType = new MessageWriter().varint(1, onnxTypeCodes[type.dataType]).message(2, shape);
  return new MessageWriter().string(1, name).message(2, new MessageWriter().message(1, tensorType));
};

const tensorHeader = (name: string, type: TensorType): MessageWriter => {
  const proto = new MessageWriter();
  for (const size of type.shape) proto.varint(1, size);
  return proto.varint(2, onnxTypeCodes[type.dataType]).string(8, name);
};

const tensorProto = (name: string, { data, ...type }: HostTensor): MessageWriter =>
  tensorHeader(name, type).bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));

const weightProto = (name: string, type: TensorType, weight: HostTensor | ExternalWeight): MessageWriter => {
  if ('location' in weight) {
    const proto = tensorHeader(name, type);
    const entries = { location: weight.location, offset: String(weight.offset), length: String(weight.byteLength) };
    for (const [key, value] of Object.entries(entries)) proto.message(13, new MessageWriter().string(1, key).string(2, value));
    return proto.varint(14, 1);
  }
  if (weight.dataType !== type.dataType || !sameShape(weight.shape, type.shape)) {
    throw new InternalError(`weight "${name}" is ${describeType(weight)}, the graph wants ${describeType(type)}`);
  }
  return tensorProto(name, weight);
};
