import type { Graph } from '../graph/graph.ts';
import { elementCount, type HostData, type HostTensor, type TensorType } from '../graph/tensor-type.ts';
import { llama } from '../models/llama.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { type OpPlacement, opPlacements } from '../runtime/op-placement.ts';
import { openDevice } from '../runtime/open-device.ts';
import type { LoraSpecification } from './engine.ts';
import { loraShapes } from './initial-parameters.ts';
import { decodeGraph, lossGraph, prefillGraph } from './step-graphs.ts';

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
    const decoder = llama(smallLlama);
    const adapter = [...loraShapes(decoder, lora).keys()];
    const shape = { batch: 2, sequence: 32, lossCount: 16 };
    const programs: Record<string, Graph> = {
      'training step, adapter': lossGraph({ decoder, lora, shape }, { name: 'cross-entropy' }, adapter),
      'training step, whole model': lossGraph({ decoder, lora: undefined, shape }, { name: 'cross-entropy' }, [
        ...decoder.parameters.keys(),
      ]),
      'reading a prompt': prefillGraph({ decoder, lora, shape: { ...shape, batch: 1, lossCount: 1 } }),
      'decoding a token': decodeGraph(decoder, lora, 2, 64),
    };
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

const zeros = (type: TensorType): HostTensor => {
  const count = elementCount(type.shape);
  const data: Partial<Record<TensorType['dataType'], HostData>> = {
    float32: new Float32Array(count),
    int32: new Int32Array(count),
    int64: new BigInt64Array(count),
  };
  return { ...type, data: data[type.dataType] ?? new Uint8Array(count) };
};
