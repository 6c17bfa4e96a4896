import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { openDevice } from '../src/runtime/open-device.ts';

const refusal = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof UserError, String(error));
  assert.match(error.message, message);
  assert.match(error.message, /`device: cpu` works everywhere/);
  return true;
};

describe('a device that is not there', () => {
  it('is told with the systems that have it', { skip: process.platform === 'win32' }, async () => {
    await assert.rejects(openDevice('dml'), refusal(/^device dml: .* DirectML on Windows only, and this is /));
  });

  it('is told with the systems that have it, on this one too', { skip: process.platform === 'darwin' }, async () => {
    await assert.rejects(openDevice('coreml'), refusal(/^device coreml: .* Core ML on macOS only, and this is /));
  });

  it('is told with how to get it', { skip: process.platform !== 'linux' || process.arch !== 'x64' }, async (context) => {
    try {
      await (await openDevice('cuda')).release();
      context.skip('this machine has CUDA');
    } catch (error) {
      refusal(/^device cuda: CUDA cannot be opened \(.+\)\. .*--onnxruntime-node-install=cuda12/)(error);
    }
  });

  it('keeps nothing between runs on the CPU', async () => {
    const device = await openDevice('cpu');
    assert.equal(device.keepsTensors, false);
    await device.release();
  });
});
