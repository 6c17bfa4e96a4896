import type { Graph } from '../graph/graph.ts';
import { elementCount, type HostData, type HostTensor, type TensorType } from '../graph/tensor-type.ts';
import { llama } from '../models/llama.ts';
import { adamwUpdate, sgdUpdate } from '../optim/update-rules.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { type OpPlacement, opPlacements } from '../runtime/op-placement.ts';
import { openDevice } from '../runtime/open-device.ts';
import { bundlesOf, inBundles } from './bundles.ts';
import { layingGraph } from './device-cache.ts';
import type { LoraSpecification } from './engine.ts';
import { loraShapes } from './initial-parameters.ts';
import type { ParameterShapes } from './parameter-arrays.ts';
import { decodeGraph, lossGraph, prefillGraph } from './step-graphs.ts';
import { additionGraph, squaresGraph, updateGraph } from './update-programs.ts';

/** A program that training or decoding runs, and where its ops are computed. */
export interface ProgramPlacement {
  readonly program: string;
  readonly ops: readonly OpPlacement[];
}

/** As small as a Llama can be and have all of its ops. */
const smallLlama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 8,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 64,
  rope_theta: 10000,
  tie_word_embeddings: true,
};

const lora: LoraSpecification = { rank: 2, alpha: 4, targets: ['q_proj', 'down_proj'], dropout: 0, seed: 0 };

/** Opens a device, a UserError where there is none, and finds out where each op of a training step and of decoding runs. */
export const checkDevice = async (name: DeviceName): Promise<ProgramPlacement[]> => {
  const device = await openDevice(name);
  try {
    const programs = device.keepsTensors ? { ...stepPrograms(true), ...heldPrograms() } : stepPrograms(false);
    const placements: ProgramPlacement[] = [];
    for (const [program, graph] of Object.entries(programs)) {
      const inputs = Object.fromEntries([...graph.inputs].map(([input, { type }]) => [input, zeros(type)]));
      placements.push({ program, ops: await opPlacements(graph, inputs, name) });
    }
    return placements;
  } finally {
    await device.release();
  }
};

const decoder = llama(smallLlama);
const adapter = loraShapes(decoder, lora);

/** @param bundled whether parameters and gradients lie in bundles, as on a device that keeps them */
const stepPrograms = (bundled: boolean): Record<string, Graph> => {
  const shape = { batch: 2, sequence: 32, lossCount: 16 };
  const prompt = { decoder, lora, shape: { ...shape, batch: 1, lossCount: 1 } };
  const loss = { name: 'cross-entropy' } as const;
  const held = (graph: Graph, shapes: ParameterShapes): Graph => (bundled ? inBundles(graph, bundlesOf(shapes)) : graph);
  const whole = lossGraph({ decoder, lora: undefined, shape }, loss, { trainable: [...decoder.parameters.keys()], activations: 'kept' });
  return {
    'training step, adapter': held(
      lossGraph({ decoder, lora, shape }, loss, { trainable: [...adapter.keys()], activations: 'kept' }),
      adapter,
    ),
    'training step, whole model': held(whole, decoder.parameters),
    'reading a prompt': held(prefillGraph(prompt), adapter),
    'decoding a token': held(decodeGraph({ decoder, lora }, 2, 64), adapter),
  };
};

/** What is computed where parameters and cache stay on the device, and on the host otherwise. */
const heldPrograms = (): Record<string, Graph> => {
  const bundles = bundlesOf(adapter);
  return {
    'adding gradients up': additionGraph(bundles),
    'their norm': squaresGraph(bundles),
    'step of AdamW': updateGraph(bundles, adamwUpdate({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 })),
    'step of SGD': updateGraph(bundles, sgdUpdate({ momentum: 0.9, weightDecay: 0.01 })),
    'keeping a token': layingGraph({ decoder, batch: 2, capacity: 64 }, 1),
  };
};

const zeros = (type: TensorType): HostTensor => {
  const count = elementCount(type.shape);
  const data: Partial<Record<TensorType['dataType'], HostData>> = {
    float32: new Float32Array(count),
    int32: new Int32Array(count),
    int64: new BigInt64Array(count),
  };
  return { ...type, data: data[type.dataType] ?? new Uint8Array(count) };
};
