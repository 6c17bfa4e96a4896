// One of several threads on one device: runs a program many times, fed with what it left there, and says what came out.
import { parentPort } from 'node:worker_threads';
import { graphOf } from '../src/graph/graph.ts';
import { float32 } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { add } from '../src/ops/index.ts';
import { compileProgram } from '../src/runtime/onnx-program.ts';
import { openDevice } from '../src/runtime/open-device.ts';
import type { DeviceTensor } from '../src/runtime/program.ts';

const device = await openDevice('webgpu');
const [x, one] = [input('x', float32(256)), input('one', float32(256))];
const program = await compileProgram(graphOf({ sum: add(x, one) }), { device: 'webgpu', kept: new Set(['sum']) });
const ones = await device.upload({ ...float32(256), data: new Float32Array(256).fill(1) });
let current: DeviceTensor = await device.upload({ ...float32(256), data: new Float32Array(256) });
for (let run = 0; run < 100; run++) {
  const { kept } = await program.runKeeping({ x: current, one: ones });
  current.dispose();
  current = kept.sum as DeviceTensor;
}
const { data } = await device.download(current);
for (const tensor of [current, ones]) tensor.dispose();
await program.release();
await device.release();
parentPort?.postMessage(data);
