import { gradient } from '../autodiff/gradient.ts';
import { recomputed } from '../autodiff/recomputed.ts';
import { type Graph, graphOf } from '../graph/graph.ts';
import { float32, int32, type Shape, type TensorType } from '../graph/tensor-type.ts';
import { input, type Value } from '../graph/value.ts';
import type { Decoder, ForwardOptions, KeyValue } from '../models/decoder.ts';
import { floatHead, inSlices } from '../nn/frozen-head.ts';
import { type ByteForm, int8Head, int8Products } from '../nn/int8-linear.ts';
import type { AdapterScope, Scope } from '../nn/scope.ts';
import { gather } from '../ops/indexing.ts';
import { logSoftmax } from '../ops/normalisation.ts';
import { reduceSum } from '../ops/reduce.ts';
import type { Activations, LoraSpecification, LossSpecification } from './engine.ts';
import { lossValues, needsTeacherLogits } from './losses.ts';
import type { MicroBatchShape } from './micro-batch.ts';

/** What all programs of one model and purpose have in common. */
export interface GraphModel {
  readonly decoder: Decoder;
  readonly lora: LoraSpecification | undefined;
  /** How the linear layers' bytes are signed; absent: they are float32. */
  readonly byteForm?: ByteForm | undefined;
}

/** A scope whose parameters are inputs of the program, each once. */
const inputScope = ({ lora, byteForm }: GraphModel, training: boolean): Scope & { readonly inputs: ReadonlyMap<string, Value> } => {
  const inputs = new Map<string, Value>();
  const once = (name: string, type: TensorType): Value => {
    const known = inputs.get(name) ?? input(name, type);
    inputs.set(name, known);
    return known;
  };
  const parameter = (name: string, shape: Shape): Value => once(name, float32(...shape));
  const adapter: AdapterScope | undefined = lora && {
    rank: lora.rank,
    alpha: lora.alpha,
    targets: new Set(lora.targets),
    ...(training && lora.dropout > 0 && { dropoutMask: (module, shape) => parameter(dropoutName(module), shape) }),
  };
  return {
    inputs,
    parameter,
    ...(byteForm && { frozen: int8Products(byteForm, once) }),
    // A head that is trained has a gradient of its own, which wants all logits.
    ...((!training || lora) && {
      frozenLikelihood: inSlices(byteForm && training ? int8Head(byteForm, once) : floatHead(parameter), training),
    }),
    ...(adapter && { adapter }),
  };
};

export const dropoutName = (module: string): string => `dropout:${module}`;
/** Masks and a teacher's logits: inputs as large as activations, made anew for every run. */
export const isLargeInput = (name: string): boolean => name.startsWith(dropoutName('')) || name === 'teacherLogits';
export const gradientName = (parameter: string): string => `gradient:${parameter}`;
export const termName = (term: string): string => `term:${term}`;

export interface StepOptions extends GraphModel {
  readonly shape: MicroBatchShape;
}

const lossInputs = ({ decoder, shape }: StepOptions, scope: Scope, options?: ForwardOptions) => {
  const tokens = input('tokens', int32(shape.batch, shape.sequence));
  const sources = input('sources', int32(shape.lossCount));
  const places = [shape.batch, shape.sequence] as const;
  const packing = shape.packed && {
    positions: input('positions', { dataType: 'int64', shape: places }),
    starts: input('starts', float32(...places)),
  };
  const { hidden, keyValues } = decoder.forward(scope, tokens, { ...options, ...(packing && { packing }) });
  // Only rows that something is predicted from reach the head: its matrix is the model's largest.
  const predicting = gather(hidden, sources, 0);
  return { predicting, logits: decoder.logits(scope, predicting), keyValues }; // [loss tokens, width], [loss tokens, vocabulary]
};

/** What is trained, and how its gradients are made. */
export interface Differentiation {
  readonly trainable: readonly string[];
  readonly activations: Activations;
}

/** The loss of a micro-batch by token and term, and, where something is trained, the summed loss's gradients. */
export const lossGraph = (options: StepOptions, loss: LossSpecification, training?: Differentiation): Graph => {
  const { trainable = [], activations } = training ?? {};
  const scope = inputScope(options, training !== undefined);
  const { lossCount } = options.shape;
  const trained = new Set(trainable);
  const { predicting, logits } = lossInputs(options, scope, {
    ...(activations === 'recomputed' && { throughLayer: (layer, hidden) => recomputed(layer, hidden, trained) }),
  });
  const targets = input('targets', int32(lossCount));
  // Values that the loss does not use are no part of the graph: without a teacher, the head may be one that never puts out logits.
  const against = needsTeacherLogits(loss)
    ? { teacherLogits: input('teacherLogits', float32(lossCount, options.decoder.vocabularySize)) }
    : { negativeLogLikelihood: options.decoder.negativeLogLikelihood(scope, predicting, targets) };
  const { total, terms } = lossValues({ logits, targets, weights: input('weights', float32(lossCount)), ...against }, loss);
  const outputs: Record<string, Value> = { total };
  for (const [term, value] of Object.entries(terms)) outputs[termName(term)] = value;
  const gradients = gradient(
    reduceSum(total, [0], false),
    trainable.map((name) => scope.inputs.get(name) as Value),
  );
  trainable.forEach((name, index) => {
    outputs[gradientName(name)] = gradients[index] as Value;
  });
  return graphOf(outputs);
};

/** Logits at chosen positions, and inner values by name. */
export const logitsGraph = (options: StepOptions, taps: readonly string[]): Graph => {
  const outputs: Record<string, Value> = {};
  const { logits } = lossInputs(options, inputScope(options, false), {
    tap: (name, value) => {
      if (taps.includes(name)) outputs[name] = value;
    },
  });
  return graphOf({ logits, ...outputs });
};

export const cacheName = (kind: 'key' | 'value', layer: number): string => `cache.${kind}.${layer}`;
export const newName = (kind: 'key' | 'value', layer: number): string => `new.${kind}.${layer}`;
export const isNewKeyValue = (output: string): boolean => output.startsWith('new.');

export const prefixName = (kind: 'key' | 'value', layer: number): string => `prefix.${kind}.${layer}`;

/**
 * Prompts: the log-probabilities after the last token of each, and every layer's keys and values, [1, kvHeads, sequence, headWidth].
 *
 * @param prefixLength positions before all of them, whose keys and values are inputs, [1, kvHeads, prefix, headWidth]
 */
export const prefillGraph = (options: StepOptions, prefixLength = 0): Graph => {
  const { kvHeadCount, headWidth, layerCount } = options.decoder;
  const type = float32(1, kvHeadCount, prefixLength, headWidth);
  const prefix: KeyValue[] = Array.from({ length: layerCount }, (_, layer) => ({
    key: input(prefixName('key', layer), type),
    value: input(prefixName('value', layer), type),
  }));
  const { logits, keyValues } = lossInputs(options, inputScope(options, false), prefixLength === 0 ? {} : { prefix });
  return graphOf({ logProbabilities: logSoftmax(logits), ...cacheOutputs(keyValues) });
};

/** One more token for each of `batch` sequences whose keys and values lie in a cache of `capacity` positions. */
export const decodeGraph = (model: GraphModel, batch: number, capacity: number): Graph => {
  const { decoder } = model;
  const { kvHeadCount, headWidth, layerCount } = decoder;
  const cache: KeyValue[] = Array.from({ length: layerCount }, (_, layer) => ({
    key: input(cacheName('key', layer), float32(batch, kvHeadCount, headWidth, capacity)),
    value: input(cacheName('value', layer), float32(batch, kvHeadCount, capacity, headWidth)),
  }));
  const step = decoder.decodeStep(inputScope(model, false), {
    tokens: input('tokens', int32(batch, 1)),
    positions: input('positions', { dataType: 'int64', shape: [batch, 1] }),
    mask: input('mask', float32(batch, 1, 1, capacity)),
    cache,
  });
  return graphOf({ logProbabilities: logSoftmax(step.logits), ...cacheOutputs(step.keyValues) });
};

const cacheOutputs = (cache: readonly KeyValue[]): Record<string, Value> => {
  const outputs: Record<string, Value> = {};
  cache.forEach(({ key, value }, layer) => {
    outputs[newName('key', layer)] = key;
    outputs[newName('value', layer)] = value;
  });
  return outputs;
};
