import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { frozenOnDevice } from '../src/engines/frozen-on-device.ts';
import { graphOf } from '../src/graph/graph.ts';
import { float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import type { ExternalWeight, Weights } from '../src/onnx/model.ts';
import { add, mul } from '../src/ops/index.ts';
import type { Device, DeviceTensor } from '../src/runtime/program.ts';

/** A device whose tensors say what they were made of. */
const recordingDevice = () => {
  const uploads: HostTensor[] = [];
  let disposedCount = 0;
  const device: Device = {
    keepsTensors: true,
    upload: async (tensor) => {
      uploads.push(tensor);
      const held: DeviceTensor = { dataType: tensor.dataType, shape: tensor.shape, dispose: () => disposedCount++ };
      return held;
    },
    download: () => assert.fail('nothing is brought back'),
    release: async () => undefined,
  };
  return { device, uploads, disposedCount: () => disposedCount };
};

it('frozen weights are uploaded once for all programs, from memory or from their place in a file, and freed at the end', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-frozen-'));
  try {
    await writeFile(join(folder, 'weights'), new Uint8Array(Float32Array.of(9, 1, 2, 3).buffer));
    const inMemory: HostTensor = { ...float32(3), data: Float32Array.of(4, 5, 6) };
    const weights: Weights = new Map<string, HostTensor | ExternalWeight>([
      ['a', inMemory],
      ['b', { location: 'weights', offset: 4, byteLength: 12 }],
      ['c', inMemory],
    ]);
    const [a, b, x] = [input('a', float32(3)), input('b', float32(3)), input('x', float32(3))];
    const { device, uploads, disposedCount } = recordingDevice();
    const frozen = frozenOnDevice(device);
    const first = await frozen.taken(graphOf({ y: add(a, x) }), { weights, weightsFolder: folder });
    assert.deepEqual(Object.keys(first.given), ['a']);
    const second = await frozen.taken(graphOf({ y: mul(add(a, b), x) }), { weights, weightsFolder: folder });
    assert.deepEqual(Object.keys(second.given).sort(), ['a', 'b']);
    assert.equal(second.given.a, first.given.a);
    assert.deepEqual(
      uploads.map(({ data }) => [...data]),
      [
        [4, 5, 6],
        [1, 2, 3],
      ],
    );
    // What a program is given is not baked into it; a name that it does not take does no harm.
    assert.deepEqual([...second.weights.keys()], ['c']);
    frozen.dispose();
    assert.equal(disposedCount(), 2);
  } finally {
    await rm(folder, { recursive: true });
  }
});
