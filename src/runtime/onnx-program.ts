import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { InternalError } from '../base/errors.ts';
import type { Graph } from '../graph/graph.ts';
import {
  type DataType,
  describeType,
  elementCount,
  type HostData,
  type HostTensor,
  sameShape,
  type TensorType,
} from '../graph/tensor-type.ts';
import { type Weights, writeOnnx } from '../onnx/model.ts';
import type { Program } from './program.ts';

export interface CompileOptions {
  /** Inputs of the graph that are baked into the program. */
  readonly weights?: Weights;
  /** The folder that weights by reference lie in: ONNX Runtime refuses files outside the model's own folder. */
  readonly weightsFolder?: string;
  /** Threads inside one op; absent: as many as there are cores. */
  readonly threadCount?: number;
  /** A second, packed copy of constant matrices: faster products, twice the memory, and nothing of the mapped file shared. */
  readonly prepack?: boolean;
}

/** Compiles a graph with ONNX Runtime on the CPU. */
export const compileProgram = async (graph: Graph, options: CompileOptions = {}): Promise<Program> => {
  const bytes = writeOnnx(graph, options.weights);
  const session =
    options.weightsFolder === undefined
      ? await InferenceSession.create(bytes, sessionOptions(options))
      : await createBeside(options.weightsFolder, bytes, sessionOptions(options));
  const given = [...graph.inputs].filter(([name]) => !options.weights?.has(name));
  let released = false;
  return {
    run: async (inputs, into = {}) => {
      if (released) throw new InternalError('a program was run after its release');
      const feeds: Record<string, Tensor> = {};
      for (const [name, value] of given) feeds[name] = ortTensor(name, value.type, inputs[name]);
      const fetches: Record<string, Tensor | null> = {};
      for (const [name, value] of graph.outputs) {
        const target = into[name];
        fetches[name] = target === undefined ? null : ortTensor(name, value.type, target);
      }
      const results = await session.run(feeds, fetches);
      return Object.fromEntries(
        [...graph.outputs].map(([name, value]) => [name, into[name] ?? hostTensor(name, value.type, results[name])]),
      );
    },
    release: async () => {
      if (released) return;
      released = true;
      await session.release();
    },
  };
};

const sessionOptions = (options: CompileOptions): InferenceSession.SessionOptions => ({
  executionProviders: ['cpu'],
  graphOptimizationLevel: 'all',
  // Planned memory comes on top of what the first run took piece by piece: a training step of SmolLM2 holds 0.98 GB with it and 0.55 without,
  // and is no slower.
  enableMemPattern: false,
  logSeverityLevel: 3,
  ...(options.threadCount === undefined ? {} : { intraOpNumThreads: options.threadCount }),
  extra: {
    session: {
      // Subnormal numbers of vanishing gradients cost a hundred times an ordinary product.
      set_denormal_as_zero: '1',
      disable_prepacking: options.prepack === false ? '1' : '0',
    },
  },
});

/** Weights by reference are found beside the model's file, so the graph is written there for as long as it is being read. */
const createBeside = async (folder: string, bytes: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession> => {
  const file = join(folder, `graph-${process.pid}-${randomUUID()}.onnx`);
  try {
    await writeFile(file, bytes);
    return await InferenceSession.create(file, options);
  } finally {
    await rm(file, { force: true });
  }
};

/** Our element types as ONNX Runtime's binding names them. */
const ortTypes: Record<DataType, Tensor.Type> = {
  float32: 'float32',
  float64: 'float64',
  float16: 'float16',
  int32: 'int32',
  int64: 'int64',
  int8: 'int8',
  uint8: 'uint8',
  bool: 'bool',
};

const ortTensor = (name: string, type: TensorType, tensor: HostTensor | undefined): Tensor => {
  if (tensor === undefined) throw new InternalError(`no tensor was given for "${name}", ${describeType(type)}`);
  const fits = tensor.dataType === type.dataType && sameShape(tensor.shape, type.shape) && tensor.data.length === elementCount(type.shape);
  if (!fits) {
    throw new InternalError(
      `"${name}" wants ${describeType(type)}, and was given ${describeType(tensor)} with ${tensor.data.length} elements`,
    );
  }
  return new Tensor(ortTypes[type.dataType], tensor.data as never, type.shape);
};

const hostTensor = (name: string, type: TensorType, tensor: InferenceSession.OnnxValueMapType[string] | undefined): HostTensor => {
  if (tensor === undefined) throw new InternalError(`ONNX Runtime gave no output "${name}"`);
  return { ...type, data: tensor.data as HostData };
};
