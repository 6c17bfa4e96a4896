import type { HostTensor, TensorType } from '../graph/tensor-type.ts';

/** A compiled graph. Whoever compiles it releases it. */
export interface Program {
  /**
   * Runs once. Inputs go by name and must all be there. Tensors in `into` receive the outputs of their names in place, without a new
   * allocation; an output may be written into the very memory that an input was read from only where the op allows it.
   */
  run(inputs: Readonly<Record<string, Tensor>>, into?: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>>;
  /** Runs once and leaves the outputs that the program was compiled to keep (`CompileOptions.kept`) on the device. */
  runKeeping(inputs: Readonly<Record<string, Tensor>>): Promise<KeptOutputs>;
  release(): Promise<void>;
}

/** What a run takes: from the host, copied to the device at every run, or as it lies there. */
export type Tensor = HostTensor | DeviceTensor;

/** A tensor that lies on a device between runs, and can only be given to programs of that device. Whoever is given one disposes of it. */
export interface DeviceTensor extends TensorType {
  dispose(): void;
}

export interface KeptOutputs {
  readonly outputs: Readonly<Record<string, HostTensor>>;
  readonly kept: Readonly<Record<string, DeviceTensor>>;
}

/** Where programs run. It is opened once by whoever computes on it, and released when all its programs and tensors are. */
export interface Device {
  /** Whether tensors can stay on it between runs; otherwise there is nothing to upload to. */
  readonly keepsTensors: boolean;
  upload(tensor: HostTensor): Promise<DeviceTensor>;
  download(tensor: DeviceTensor): Promise<HostTensor>;
  release(): Promise<void>;
}
