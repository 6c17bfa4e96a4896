import { join } from 'node:path';
import type { Graph } from '../graph/graph.ts';
import type { DataType, HostData, HostTensor, TensorType } from '../graph/tensor-type.ts';
import type { ExternalWeight, Weights } from '../onnx/model.ts';
import type { CompileOptions } from '../runtime/onnx-program.ts';
import type { Device, DeviceTensor } from '../runtime/program.ts';
import { openByteFile } from '../weights/byte-file.ts';

/** Frozen weights on a device, each once however many programs take it: baked into them, every program would hold a copy of its own. */
export interface FrozenOnDevice {
  /** The weights that a program takes, as its inputs, uploaded when first asked for; and those that must be baked in after all. */
  taken(
    graph: Graph,
    options: CompileOptions,
  ): Promise<{ readonly given: Readonly<Record<string, DeviceTensor>>; readonly weights: Weights }>;
  dispose(): void;
}

/** Arrays of the element types that can lie on a device by themselves. */
const arrayTypes: Partial<Record<DataType, new (buffer: ArrayBuffer) => HostData>> = {
  float32: Float32Array,
  float16: Uint16Array,
  int32: Int32Array,
  uint8: Uint8Array,
};

export const frozenOnDevice = (device: Device): FrozenOnDevice => {
  const uploaded = new Map<HostTensor | ExternalWeight, DeviceTensor>();
  return {
    taken: async (graph, { weights = new Map(), weightsFolder }) => {
      const given: Record<string, DeviceTensor> = {};
      const baked = new Map(weights);
      for (const [name, { type }] of graph.inputs) {
        const weight = weights.get(name);
        if (weight === undefined || arrayTypes[type.dataType] === undefined) continue;
        const tensor = uploaded.get(weight) ?? (await device.upload(await hostWeight(name, weight, type, weightsFolder ?? '')));
        uploaded.set(weight, tensor);
        given[name] = tensor;
        baked.delete(name);
      }
      return { given, weights: baked };
    },
    dispose: () => {
      for (const tensor of uploaded.values()) tensor.dispose();
      uploaded.clear();
    },
  };
};

const hostWeight = async (name: string, weight: HostTensor | ExternalWeight, type: TensorType, folder: string): Promise<HostTensor> => {
  if (!('location' in weight)) return weight;
  const file = await openByteFile(join(folder, weight.location));
  try {
    const bytes = new Uint8Array(weight.byteLength);
    await file.readInto(bytes, weight.offset, name);
    const ArrayType = arrayTypes[type.dataType] ?? Uint8Array;
    return { ...type, data: new ArrayType(bytes.buffer) };
  } finally {
    await file.close();
  }
};
