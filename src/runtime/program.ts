import type { HostTensor } from '../graph/tensor-type.ts';

/** A compiled graph. Whoever compiles it releases it. */
export interface Program {
  /**
   * Runs once. Inputs go by name and must all be there. Tensors in `into` receive the outputs of their names in place, without a new
   * allocation; an output may be written into the very memory that an input was read from only where the op allows it.
   */
  run(inputs: Readonly<Record<string, HostTensor>>, into?: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor>>;
  release(): Promise<void>;
}
