import type { Graph } from '../graph/graph.ts';
import { elementCount, float32 } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { clipFactor } from '../optim/clip.ts';
import type { Arrays } from '../optim/optimiser.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { type CompileOptions, compileProgram } from '../runtime/onnx-program.ts';
import type { Device, DeviceTensor, KeptOutputs, Program } from '../runtime/program.ts';
import { type Bundle, bundleName, bundlesOf, inBundles, packBundle, unpackBundles } from './bundles.ts';
import { deviceCache } from './device-cache.ts';
import { frozenOnDevice } from './frozen-on-device.ts';
import type { KeyValueCache } from './key-value-cache.ts';
import type { ParameterShapes } from './parameter-arrays.ts';
import { gradientName, isNewKeyValue } from './step-graphs.ts';
import { finiteNorm, type TrainingState } from './training-state.ts';
import { updatePrograms, type Vectors } from './update-programs.ts';

/**
 * A state that stays on a device: a step brings back losses and the norm, and nothing else crosses. Programs for it are compiled by
 * `compile`, which hands them the parameters and the frozen weights that lie there, and takes their gradients; what they compute of keys and
 * values goes to a cache that lies there too.
 */
export interface DeviceState extends TrainingState {
  compile(graph: Graph, options: CompileOptions): Promise<Program>;
  openCache(decoder: Decoder, batch: number, capacity: number): Promise<KeyValueCache>;
}

export const deviceState = async (device: Device, name: DeviceName, shapes: ParameterShapes, initial: Arrays): Promise<DeviceState> => {
  const bundles = bundlesOf(shapes);
  const frozen = frozenOnDevice(device);
  const updates = updatePrograms(name, bundles);
  let parameters: Vectors = await upload(device, bundles, initial);
  let slots: Readonly<Record<string, Vectors>> | undefined;
  let accumulated: Vectors | undefined;
  let updateCount = 0;

  const forget = (): void => {
    dispose(parameters, accumulated, ...Object.values(slots ?? {}));
    accumulated = undefined;
    slots = undefined;
    parameters = [];
  };
  const accumulate = async (gradients: Vectors): Promise<void> => {
    const before = accumulated;
    accumulated = before === undefined ? gradients : await updates.add(before, gradients);
    if (before !== undefined) dispose(before, gradients);
  };
  const uploadSlots = async (arrays: readonly (readonly [string, Arrays])[]): Promise<Record<string, Vectors>> => {
    const uploaded: Record<string, Vectors> = {};
    for (const [slot, values] of arrays) uploaded[slot] = await upload(device, bundles, values);
    return uploaded;
  };
  /** In the order in which they were given. */
  const downloaded = async (vectors: Vectors): Promise<Arrays> => {
    const arrays = await download(device, bundles, vectors);
    return Object.fromEntries([...shapes.keys()].map((key) => [key, arrays[key] as Float32Array]));
  };

  return {
    adoptable: undefined,
    get hasGradients() {
      return accumulated !== undefined;
    },
    // They are here already: the programs' own runs accumulate them.
    add: () => undefined,
    step: async ({ optimiser, learningRate, tokenCount, maximumNorm }, stepNumber) => {
      const gradients = accumulated ?? [];
      const norm = finiteNorm(Math.sqrt(await updates.sumOfSquares(gradients)) / tokenCount, stepNumber);
      const before = slots ?? (await uploadSlots(updates.slotsOf(optimiser).map((slot) => [slot, zerosOf(shapes)])));
      const step = { learningRate, stepCount: updateCount + 1, factor: clipFactor(norm, maximumNorm) / tokenCount };
      const after = await updates.update(optimiser, { parameters, gradients, slots: before }, step);
      dispose(parameters, gradients, ...Object.values(before));
      ({ parameters, slots } = after);
      accumulated = undefined;
      updateCount++;
      return norm;
    },
    parameters: () => downloaded(parameters),
    optimiser: async () => {
      if (slots === undefined) return undefined;
      const remembered: Record<string, Arrays> = {};
      for (const [slot, vectors] of Object.entries(slots)) remembered[slot] = await downloaded(vectors);
      return { slots: remembered, stepCount: updateCount };
    },
    begin: async (from, remembered) => {
      forget();
      parameters = await upload(device, bundles, from);
      updateCount = remembered?.stepCount ?? 0;
      slots = remembered && (await uploadSlots(Object.entries(remembered.slots)));
    },
    compile: async (graph, options) => {
      const bundled = inBundles(graph, bundles);
      const { given, weights } = await frozen.taken(bundled, options);
      const gradients = bundles.map((_, index) => gradientName(bundleName(index))).filter((output) => bundled.outputs.has(output));
      const kept = new Set([...gradients, ...[...bundled.outputs.keys()].filter(isNewKeyValue)]);
      const program = await compileProgram(bundled, { ...options, weights, device: name, kept });
      const runKeeping = (inputs: Parameters<Program['run']>[0]): Promise<KeptOutputs> =>
        program.runKeeping({ ...inputs, ...given, ...Object.fromEntries(parameters.map((tensor, index) => [bundleName(index), tensor])) });
      return {
        runKeeping,
        run: async (inputs) => {
          const { outputs, kept } = await runKeeping(inputs);
          if (gradients.length > 0) await accumulate(gradients.map((output) => kept[output] as DeviceTensor));
          return { ...outputs };
        },
        release: () => program.release(),
      };
    },
    openCache: (decoder, batch, capacity) => deviceCache(name, decoder, batch, capacity),
    release: async () => {
      forget();
      frozen.dispose();
      await updates.release();
    },
  };
};

const upload = async (device: Device, bundles: readonly Bundle[], arrays: Arrays): Promise<Vectors> => {
  const vectors: DeviceTensor[] = [];
  for (const bundle of bundles) vectors.push(await device.upload({ ...float32(bundle.length), data: packBundle(bundle, arrays) }));
  return vectors;
};

const download = async (device: Device, bundles: readonly Bundle[], vectors: Vectors): Promise<Arrays> => {
  const arrays: Float32Array[] = [];
  for (const vector of vectors) arrays.push((await device.download(vector)).data as Float32Array);
  return unpackBundles(bundles, arrays);
};

const dispose = (...lists: readonly (Vectors | undefined)[]): void => {
  for (const vectors of lists) for (const vector of vectors ?? []) vector.dispose();
};

const zerosOf = (shapes: ParameterShapes): Arrays =>
  Object.fromEntries([...shapes].map(([name, shape]) => [name, new Float32Array(elementCount(shape))]));
