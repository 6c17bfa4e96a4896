import { ShapeError } from '../base/errors.ts';
import { describeType, elementCount, type HostTensor, type TensorType } from './tensor-type.ts';

/** A traced result: something that a program will compute, is given, or holds. */
export interface Value {
  readonly type: TensorType;
  readonly origin: Origin;
}

export type Origin =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'constant'; readonly tensor: HostTensor }
  | { readonly kind: 'node'; readonly node: Node; readonly outputIndex: number };

/** One application of an op. It holds its op's row, so that nothing looks an op up by name. */
export interface Node {
  readonly op: AnyOp;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes: object;
  readonly outputs: readonly Value[];
}

/** What an op may take: a fixed tuple or a list; `undefined` stands for an optional input that is not given. */
export type Inputs = readonly (Value | undefined)[];
export type Outputs = readonly Value[];
export type TypesOf<Values extends Inputs> = {
  readonly [K in keyof Values]: undefined extends Values[K] ? TensorType | undefined : TensorType;
};
export type HostOf<Values extends Inputs> = {
  readonly [K in keyof Values]: undefined extends Values[K] ? HostTensor | undefined : HostTensor;
};
export type CotangentsOf<Values extends Inputs> = { readonly [K in keyof Values]: Value | undefined };

/** What a gradient rule sees of one application. A cotangent is undefined where nothing flows back into that output. */
export interface VjpArguments<In extends Inputs, Out extends Outputs, Attributes> {
  readonly inputs: In;
  readonly outputs: Out;
  readonly attributes: Attributes;
  readonly cotangents: CotangentsOf<Out>;
  /** The first output's cotangent, which is all that ops of one output need. Reading it when nothing flows back is a bug. */
  readonly cotangent: Value;
  /** Whether a gradient with respect to input `index` is wanted at all; rules may skip work by it. */
  readonly wants: (index: number) => boolean;
}

/** Cotangents of the inputs, in their order; undefined where nothing flows. */
export type Vjp<In extends Inputs, Out extends Outputs, Attributes> = (
  application: VjpArguments<In, Out, Attributes>,
) => readonly (Value | undefined)[];

/** The gradient of an op: exact ones are held to finite differences, surrogates to a reference of their own, and some let nothing through. */
export type Gradient<In extends Inputs, Out extends Outputs, Attributes> =
  | { readonly kind: 'exact' | 'surrogate'; readonly vjp: Vjp<In, Out, Attributes> }
  | { readonly kind: 'none' };

/** Everything that is known about one op: its name, types, meaning, gradient and ONNX form. */
export interface Op<In extends Inputs, Out extends Outputs, Attributes extends object = object> {
  readonly name: string;
  /** Output types, or a thrown ShapeError. The only place where this op's shapes are checked. */
  inferTypes(inputs: TypesOf<In>, attributes: Attributes): TypesOf<Out>;
  /** Slow and obvious: the meaning of the op, in whatever float type its inputs have. Tests hold ONNX Runtime to it. */
  reference(inputs: HostOf<In>, attributes: Attributes): HostOf<Out>;
  readonly gradient: Gradient<In, Out, Attributes>;
  /** Its result is its first input's memory under another shape: nothing is computed. */
  readonly isView?: true;
  /**
   * The same in ops that every device computes, for an op whose ONNX form some device's provider lacks or computes wrongly: a WebGPU program
   * is written so. What it gives may use the op itself where a part of it is right.
   */
  inSimplerOps?(inputs: In, attributes: Attributes): Out;
  toOnnx(attributes: Attributes, inputs: TypesOf<In>): OnnxForm;
}

/** How an op is written in ONNX: as a node, or not at all, where its results are inputs of it under other names. */
export type OnnxForm = OnnxNode | { readonly aliases: readonly number[] };

/** One node, with constants of its own where the operator takes some of our attributes as inputs. */
export interface OnnxNode {
  readonly opType: string;
  /** '' is the standard set; 'com.microsoft' holds ONNX Runtime's own operators. */
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  /** The operator's inputs: a number is that input of ours, a tensor a constant, undefined an input left out. Without it: ours, in order. */
  readonly inputs?: readonly (number | HostTensor | undefined)[];
}

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] }
  | { readonly floats: readonly number[] };

// biome-ignore lint/suspicious/noExplicitAny: the union over every op's signature has no other name in TypeScript
export type AnyOp = Op<any, any, any>;

/** A value that is given at every run, or baked in as a weight when the program is compiled. */
export const input = (name: string, type: TensorType): Value => ({ type, origin: { kind: 'input', name } });

/** A value known when tracing. */
export const constant = (tensor: HostTensor): Value => {
  if (tensor.data.length !== elementCount(tensor.shape)) {
    throw new ShapeError(`a constant of ${describeType(tensor)} was given ${tensor.data.length} elements`);
  }
  return { type: { dataType: tensor.dataType, shape: tensor.shape }, origin: { kind: 'constant', tensor } };
};

/** A float32 scalar known when tracing. */
export const scalar = (value: number): Value => constant({ dataType: 'float32', shape: [], data: Float32Array.of(value) });

/** Applies an op: infers the types of what comes out, and records the application. */
export const apply = <In extends Inputs, Out extends Outputs, Attributes extends object>(
  op: Op<In, Out, Attributes>,
  inputs: In,
  attributes: Attributes,
): Out => {
  const types = inferredTypes(op, inputs, attributes);
  const outputs: Value[] = [];
  const node: Node = { op, inputs, attributes, outputs };
  types.forEach((type, outputIndex) => outputs.push({ type, origin: { kind: 'node', node, outputIndex } }));
  return outputs as Outputs as Out;
};

/** Rows say what is wrong with their shapes; which op it was and all that it was given is said here, once for all of them. */
const inferredTypes = (op: AnyOp, inputs: Inputs, attributes: object): readonly TensorType[] => {
  const types = inputs.map((value) => value?.type);
  try {
    // A row's outputs are never optional, which AnyOp cannot say.
    return op.inferTypes(types, attributes) as readonly TensorType[];
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const given = types.map((type) => (type === undefined ? 'nothing' : describeType(type)));
    throw new ShapeError(`${op.name} of ${given.join(', ')}: ${error.message.replace(/^internal: /, '')}`, { cause: error });
  }
};
