import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { InternalError, messageOf, UserError } from '../base/errors.ts';
import type { Graph } from '../graph/graph.ts';
import { inSimplerOps } from '../graph/rewrite.ts';
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
import { type DeviceName, devices } from './devices.ts';
import { atNextTurn, oneThreadAtATime } from './one-thread.ts';
import type { DeviceTensor, Program, Tensor } from './program.ts';

export interface CompileOptions {
  /** Inputs of the graph that are baked into the program. */
  readonly weights?: Weights;
  /** The folder that weights by reference lie in: ONNX Runtime refuses files outside the model's own folder. */
  readonly weightsFolder?: string;
  /** Threads inside one op; absent: as many as there are cores. */
  readonly threadCount?: number;
  /** A second, packed copy of constant matrices: faster products, twice the memory, and nothing of the mapped file shared. */
  readonly prepack?: boolean;
  /** Where it runs; absent: on the CPU. */
  readonly device?: DeviceName;
  /** Outputs that `runKeeping` leaves on the device. */
  readonly kept?: ReadonlySet<string>;
  /**
   * Writes where each op ran, and how long, into a file whose name begins so, when the program is released. An op that the device lacks is
   * then computed on the CPU, and shows.
   */
  readonly profilePrefix?: string;
}

/** A program has an op that its device cannot compute. */
export class MissingOpError extends UserError {
  override name = 'MissingOpError';
  constructor(device: DeviceName, cause: unknown) {
    super(
      `device ${device} lacks an op of this program, which would be computed on the CPU, with copies there and back. Take \`precision: float32\`, or \`device: cpu\``,
      { cause },
    );
  }
}

/** Compiles a graph with ONNX Runtime. */
export const compileProgram = async (traced: Graph, options: CompileOptions = {}): Promise<Program> => {
  const { simplerOps, oneThread } = devices[options.device ?? 'cpu'];
  const graph = simplerOps ? inSimplerOps(traced) : traced;
  const inTurn = oneThread ? oneThreadAtATime : atOnce;
  // In a function of its own, so that nothing below holds on to the model's bytes.
  const session = await inTurn(() => createSession(graph, options));
  const given = [...graph.inputs].filter(([name]) => !options.weights?.has(name));
  let released = false;
  // A tensor that outlived its session would be freed by an allocator that is no more, which ends the process: the session waits for them.
  let keptCount = 0;
  const onDispose = (): void => {
    keptCount--;
    if (released && keptCount === 0) atNextTurn(() => session.release());
  };
  const runSession = (
    inputs: Readonly<Record<string, Tensor>>,
    into: Readonly<Record<string, HostTensor>>,
  ): Promise<InferenceSession.OnnxValueMapType> => {
    if (released) throw new InternalError('a program was run after its release');
    const feeds: Record<string, OrtTensor> = {};
    for (const [name, value] of given) feeds[name] = ortTensor(name, value.type, inputs[name]);
    const fetches: Record<string, OrtTensor | null> = {};
    for (const [name, value] of graph.outputs) {
      const target = into[name];
      fetches[name] = target === undefined ? null : ortTensor(name, value.type, target);
    }
    return inTurn(() => session.run(feeds, fetches));
  };
  return {
    run: async (inputs, into = {}) => {
      if (options.kept !== undefined && options.kept.size > 0) throw new InternalError('run was called on a program that keeps outputs');
      const results = await runSession(inputs, into);
      return Object.fromEntries(
        [...graph.outputs].map(([name, value]) => [name, into[name] ?? hostTensor(name, value.type, results[name])]),
      );
    },
    runKeeping: async (inputs) => {
      const results = await runSession(inputs, {});
      const outputs: Record<string, HostTensor> = {};
      const kept: Record<string, DeviceTensor> = {};
      for (const [name, value] of graph.outputs) {
        if (options.kept?.has(name) === true) kept[name] = deviceTensor(name, value.type, results[name], onDispose);
        else outputs[name] = hostTensor(name, value.type, results[name]);
      }
      keptCount += Object.keys(kept).length;
      return { outputs, kept };
    },
    release: async () => {
      if (released) return;
      released = true;
      if (options.profilePrefix !== undefined) session.endProfiling();
      if (keptCount === 0) await inTurn(() => session.release());
    },
  };
};

const atOnce = <Result>(work: () => Promise<Result>): Promise<Result> => work();

const createSession = async (graph: Graph, options: CompileOptions): Promise<InferenceSession> => {
  const bytes = writeOnnx(graph, options.weights);
  const settings = sessionOptions(options, graph.outputs);
  try {
    if (options.weightsFolder === undefined) return await InferenceSession.create(bytes, settings);
    return await createBeside(options.weightsFolder, bytes, settings);
  } catch (error) {
    if (!messageOf(error).includes('fallback to CPU EP has been explicitly disabled')) throw error;
    throw new MissingOpError(options.device ?? 'cpu', error);
  }
};

const sessionOptions = (options: CompileOptions, outputs: Graph['outputs']): InferenceSession.SessionOptions => ({
  executionProviders: [options.device ?? 'cpu'],
  graphOptimizationLevel: 'all',
  // Planned memory comes on top of what the first run took piece by piece: a training step of SmolLM2 holds 0.98 GB with it and 0.55 without,
  // and is no slower.
  enableMemPattern: false,
  // What goes wrong is thrown too.
  logSeverityLevel: 4,
  ...(options.threadCount === undefined ? {} : { intraOpNumThreads: options.threadCount }),
  ...(options.profilePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
  ...(options.kept === undefined
    ? {}
    : {
        preferredOutputLocation: Object.fromEntries(
          [...outputs.keys()].map((name) => [name, options.kept?.has(name) === true ? 'gpu-buffer' : 'cpu']),
        ),
      }),
  extra: {
    session: {
      // Subnormal numbers of vanishing gradients cost a hundred times an ordinary product.
      set_denormal_as_zero: '1',
      disable_prepacking: options.prepack === false ? '1' : '0',
      // An op that the device lacks would be computed on the CPU in silence, with copies to it and back.
      disable_cpu_ep_fallback: devices[options.device ?? 'cpu'].refusesFallback && options.profilePrefix === undefined ? '1' : '0',
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
const ortTypes: Record<DataType, OrtTensor.Type> = {
  float32: 'float32',
  float64: 'float64',
  float16: 'float16',
  int32: 'int32',
  int64: 'int64',
  int8: 'int8',
  uint8: 'uint8',
  bool: 'bool',
};

/** What stands behind a device's tensors; nothing outside of this file knows what it is. */
const onDevice = new WeakMap<DeviceTensor, OrtTensor>();

const deviceTensor = (name: string, type: TensorType, tensor: OrtTensor | undefined, onDispose: () => void): DeviceTensor => {
  if (tensor === undefined) throw new InternalError(`ONNX Runtime gave no output "${name}"`);
  const kept: DeviceTensor = {
    ...type,
    dispose: () => {
      if (!onDevice.delete(kept)) return;
      atNextTurn(() => tensor.dispose());
      onDispose();
    },
  };
  onDevice.set(kept, tensor);
  return kept;
};

const ortTensor = (name: string, type: TensorType, tensor: Tensor | undefined): OrtTensor => {
  if (tensor === undefined) throw new InternalError(`no tensor was given for "${name}", ${describeType(type)}`);
  const fits = tensor.dataType === type.dataType && sameShape(tensor.shape, type.shape);
  if (!fits || ('data' in tensor && tensor.data.length !== elementCount(type.shape))) {
    const elements = 'data' in tensor ? ` with ${tensor.data.length} elements` : ' on the device';
    throw new InternalError(`"${name}" wants ${describeType(type)}, and was given ${describeType(tensor)}${elements}`);
  }
  if ('data' in tensor) return new OrtTensor(ortTypes[type.dataType], tensor.data as never, type.shape);
  const kept = onDevice.get(tensor);
  if (kept === undefined) throw new InternalError(`"${name}" was given a tensor that was disposed of`);
  return kept;
};

const hostTensor = (name: string, type: TensorType, tensor: OrtTensor | undefined): HostTensor => {
  if (tensor === undefined) throw new InternalError(`ONNX Runtime gave no output "${name}"`);
  return { ...type, data: tensor.data as HostData };
};
