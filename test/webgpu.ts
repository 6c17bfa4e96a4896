import { messageOf } from '../src/base/errors.ts';
import { openDevice } from '../src/runtime/open-device.ts';

const reasonAgainst = async (): Promise<string | undefined> => {
  try {
    await (await openDevice('webgpu')).release();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
};

/** For tests on WebGPU: why they cannot run here, or false. SwiftShader suffices, by VK_ICD_FILENAMES. */
export const withoutWebgpu: string | false = (await reasonAgainst()) ?? false;
