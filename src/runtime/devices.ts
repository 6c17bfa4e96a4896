/** What arithmetic can run on, by the names that configs use. */
export const deviceNames = ['cpu', 'webgpu', 'cuda', 'dml', 'coreml'] as const;
export type DeviceName = (typeof deviceNames)[number];

/** What is known of a device beforehand. Whether this machine has it shows when it is opened. */
export interface DeviceTraits {
  readonly title: string;
  /** What else is needed, by the platform's name in Node; a platform that is missing does not have the device at all. */
  readonly needs: Readonly<Partial<Record<NodeJS.Platform, string>>>;
  /** Tensors can stay on it between runs: parameters, optimiser state and key-value cache are then never copied at a step. */
  readonly keepsTensors: boolean;
  /** Programs are written in simpler ops (`Op.inSimplerOps`). */
  readonly simplerOps: boolean;
  /** Whether a program that has an op which would be computed on the CPU in silence is refused. */
  readonly refusesFallback: boolean;
  /** Whether one thread alone may be on it at a time (`oneThreadAtATime`). */
  readonly oneThread: boolean;
}

const noExtras = { keepsTensors: false, simplerOps: false, refusesFallback: false, oneThread: false };

export const devices: Readonly<Record<DeviceName, DeviceTraits>> = {
  cpu: { title: 'the processor', needs: { linux: '', darwin: '', win32: '' }, ...noExtras },
  webgpu: {
    title: 'WebGPU',
    needs: {
      linux:
        'It needs a Vulkan driver and its loader: on Debian and Ubuntu, apt install libvulkan1 and, for AMD and Intel, mesa-vulkan-drivers; ' +
        'NVIDIA’s own driver brings one. In a container the driver’s files must be let in. Without a GPU, SwiftShader computes on the processor, ' +
        'slowly: VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json, which Debian’s chromium package brings.',
      darwin: 'It needs a Mac with Metal.',
      win32: 'It needs a graphics driver with Direct3D 12.',
    },
    keepsTensors: true,
    simplerOps: true,
    refusesFallback: true,
    oneThread: true,
  },
  cuda: {
    title: 'CUDA',
    needs: {
      linux:
        'It needs an NVIDIA driver, CUDA 12, cuDNN 9, and ONNX Runtime’s files for them (300 MB), which come by ' +
        '`node node_modules/onnxruntime-node/script/install --onnxruntime-node-install=cuda12`.',
    },
    ...noExtras,
  },
  dml: { title: 'DirectML', needs: { win32: 'It needs a graphics driver with Direct3D 12.' }, ...noExtras },
  coreml: { title: 'Core ML', needs: { darwin: 'It comes with macOS.' }, ...noExtras },
};
