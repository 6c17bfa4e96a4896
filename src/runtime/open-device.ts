import { listSupportedBackends } from 'onnxruntime-node';
import { messageOf, UserError } from '../base/errors.ts';
import { graphOf } from '../graph/graph.ts';
import { describeType, float32, type TensorType } from '../graph/tensor-type.ts';
import { input } from '../graph/value.ts';
import { add } from '../ops/elementwise.ts';
import { type DeviceName, devices } from './devices.ts';
import { compileProgram } from './onnx-program.ts';
import type { Device, Program } from './program.ts';

/**
 * Opens a device: a UserError where this machine does not have it, which says how to get it. While it is open a program stays compiled on
 * it, so that the provider keeps its context, and the shaders compiled in it.
 */
export const openDevice = async (name: DeviceName): Promise<Device> => {
  const anchor = name === 'cpu' ? undefined : await probe(name);
  // Node's binding cannot copy a tensor from a device or to it (`getData` aborts the process): programs do, whose output is their input.
  const transfers = new Map<string, Promise<Program>>();
  const transfer = (direction: 'up' | 'down', { dataType, shape }: TensorType): Promise<Program> => {
    const type = { dataType, shape };
    const key = `${direction} ${describeType(type)}`;
    const known = transfers.get(key);
    const program =
      known ?? compileProgram(graphOf({ y: input('x', type) }), { device: name, kept: new Set(direction === 'up' ? ['y'] : []) });
    transfers.set(key, program);
    return program;
  };
  return {
    keepsTensors: devices[name].keepsTensors,
    upload: async (tensor) => {
      const { kept } = await (await transfer('up', tensor)).runKeeping({ x: tensor });
      return kept.y as NonNullable<typeof kept.y>;
    },
    download: async (tensor) => {
      const { y } = await (await transfer('down', tensor)).run({ x: tensor });
      return y as NonNullable<typeof y>;
    },
    release: async () => {
      for (const program of transfers.values()) await (await program).release();
      transfers.clear();
      await anchor?.release();
    },
  };
};

/** Computes 1 + 1 on the device, which finds whatever is missing. */
const probe = async (name: DeviceName): Promise<Program> => {
  const { title, needs } = devices[name];
  const need = needs[process.platform];
  if (need === undefined || !listSupportedBackends().some((backend) => backend.name === name)) {
    const platforms = Object.keys(needs).map((platform) => platformNames[platform] ?? platform);
    const here = `${platformNames[process.platform] ?? process.platform} ${process.arch}`;
    throw new UserError(`device ${name}: onnxruntime-node has ${title} on ${platforms.join(', ')} only, and this is ${here}. ${otherwise}`);
  }
  const x = input('x', float32(1));
  try {
    const program = await compileProgram(graphOf({ y: add(x, x) }), { device: name });
    await program.run({ x: { ...float32(1), data: Float32Array.of(1) } });
    return program;
  } catch (error) {
    throw new UserError(`device ${name}: ${title} cannot be opened (${lastWords(messageOf(error))}). ${need} ${otherwise}`, {
      cause: error,
    });
  }
};

const platformNames: Readonly<Record<string, string>> = { linux: 'Linux', darwin: 'macOS', win32: 'Windows' };

const otherwise = '`device: cpu` works everywhere.';

/** ONNX Runtime's messages begin with a path and a function's whole type. */
const lastWords = (message: string): string => (/ was false\. (.*)/.exec(message)?.[1] ?? message.split('\n')[0] ?? message).trim();
