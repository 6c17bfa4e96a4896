import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gradient } from '../src/autodiff/gradient.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import { deviceState } from '../src/engines/device-state.ts';
import type { Engine, EngineState, OptimiserSpecification, ParameterSelection, ParameterSet, Sample } from '../src/engines/engine.ts';
import { gradientName } from '../src/engines/step-graphs.ts';
import { graphOf } from '../src/graph/graph.ts';
import { float32 } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { gemm, reduceSum, square } from '../src/ops/index.ts';
import type { DeviceName } from '../src/runtime/devices.ts';
import { openDevice } from '../src/runtime/open-device.ts';
import { toyLora, toyRows } from './toy-fine-tune.ts';
import { writeToyModel } from './toy-model.ts';
import { withoutWebgpu } from './webgpu.ts';

const adamw: OptimiserSpecification = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
const sgd: OptimiserSpecification = { name: 'sgd', momentum: 0.9, weightDecay: 0.01 };
const rows = toyRows(6);

interface Trained {
  /** Of each step: both calls' losses and the gradient's norm. */
  readonly numbers: readonly number[];
  readonly state: EngineState;
  readonly samples: readonly Sample[];
}

const step = async (engine: Engine, optimiser: OptimiserSpecification): Promise<number[]> => {
  const first = await engine.forwardBackward(rows.slice(0, 3), { name: 'cross-entropy' });
  const second = await engine.forwardBackward(rows.slice(3), { name: 'cross-entropy' });
  const tokenCount = first.tokenCount + second.tokenCount;
  const { gradientNorm } = await engine.optimStep({ optimiser, learningRate: 0.01, tokenCount, maximumNorm: 1 });
  return [first.sum, second.sum, gradientNorm];
};

const train = async (engine: Engine, optimiser: OptimiserSpecification, stepCount: number): Promise<Trained> => {
  const numbers: number[] = [];
  for (let index = 0; index < stepCount; index++) numbers.push(...(await step(engine, optimiser)));
  const requests = rows.slice(0, 3).map(({ tokens }, index) => ({ tokens: tokens.slice(0, 9 + index), seed: index }));
  const samples = await engine.sample(requests, { maximumTokens: 8, temperature: 0, topP: 1, endTokens: [], batchSize: 2 });
  return { numbers, state: await engine.state(), samples };
};

const assertNear = (actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void => {
  assert.equal(actual.length, expected.length, what);
  for (let index = 0; index < expected.length; index++) {
    const [a, b] = [actual[index] as number, expected[index] as number];
    assert.ok(Math.abs(a - b) <= 1e-4, `${what}[${index}]: ${a} on WebGPU, ${b} on the CPU`);
  }
};

const assertSetsNear = (actual: ParameterSet | undefined, expected: ParameterSet, what: string): void => {
  assert.deepEqual(Object.keys(actual ?? {}), Object.keys(expected), what);
  for (const [name, { data }] of Object.entries(expected)) assertNear(actual?.[name]?.data ?? [], data, `${what} ${name}`);
};

const assertSame = (actual: Trained, expected: Trained): void => {
  assertNear(actual.numbers, expected.numbers, 'losses and norms');
  assertSetsNear(actual.state.parameters, expected.state.parameters, 'parameter');
  assert.equal(actual.state.stepCount, expected.state.stepCount);
  for (const [slot, set] of Object.entries(expected.state.optimiser)) assertSetsNear(actual.state.optimiser[slot], set, slot);
  actual.samples.forEach((sample, index) => {
    assert.deepEqual(sample.tokens, expected.samples[index]?.tokens);
    assertNear(sample.logProbabilities, expected.samples[index]?.logProbabilities ?? [], `log-probabilities of sample ${index}`);
  });
};

describe('training on WebGPU', { skip: withoutWebgpu }, () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'retort-webgpu-'));
    await writeToyModel(folder);
  });
  after(() => rm(folder, { recursive: true }));

  const withEngines = async (parameters: ParameterSelection, work: (engine: Engine) => Promise<Trained>): Promise<Trained[]> => {
    const results: Trained[] = [];
    for (const device of ['webgpu', 'cpu'] satisfies DeviceName[]) {
      const engine = await createEngine({
        modelFolder: folder,
        initialisation: { from: 'folder' },
        parameters,
        precision: 'float32',
        device,
        layout: device === 'cpu' ? 'thread' : 'worker',
        threadCount: 1,
      });
      try {
        results.push(await work(engine));
      } finally {
        await engine.release();
      }
    }
    return results;
  };

  it('an adapter: three steps of AdamW, its state and what it then says are the CPU’s; also when it goes on from a state', async () => {
    let continued: EngineState | undefined;
    const after: Trained[] = [];
    const [webgpu, cpu] = await withEngines({ kind: 'lora', ...toyLora(1) }, async (engine) => {
      const trained = await train(engine, adamw, 3);
      continued ??= trained.state;
      await engine.reset(5);
      await engine.restore(continued);
      after.push(await train(engine, adamw, 1));
      return trained;
    });
    assertSame(webgpu as Trained, cpu as Trained);
    assertSame(after[0] as Trained, after[1] as Trained);
  });

  it('a whole model: steps of SGD are the CPU’s', async () => {
    const [webgpu, cpu] = await withEngines({ kind: 'all' }, (engine) => train(engine, sgd, 2));
    assertSame(webgpu as Trained, cpu as Trained);
  });

  it('is done by threads in turns: two inside the provider at once end the process', async () => {
    const threads = Array.from({ length: 3 }, () => new Worker(new URL('./webgpu-worker.ts', import.meta.url)));
    const results = await Promise.all(threads.map((thread) => once(thread, 'message')));
    for (const [data] of results) assert.deepEqual(data, new Float32Array(256).fill(100));
    await Promise.all(threads.map((thread) => thread.terminate()));
  });

  it('brings back a step’s losses and norm, and nothing else crosses', async () => {
    const device = await openDevice('webgpu');
    let crossings = 0;
    const counting: typeof device = {
      ...device,
      upload: (tensor) => {
        crossings++;
        return device.upload(tensor);
      },
      download: (tensor) => {
        crossings++;
        return device.download(tensor);
      },
    };
    const w = input('w', float32(3, 2));
    const frozen = input('frozen', float32(2, 2));
    const loss = reduceSum(square(gemm(gemm(input('x', float32(4, 3)), w), frozen)), [0, 1]);
    const [slope] = gradient(loss, [w]);
    const initial = { w: Float32Array.of(1, 2, 3, 4, 5, 6) };
    const state = await deviceState(counting, 'webgpu', new Map([['w', [3, 2]]]), initial);
    const weights = new Map([['frozen', { ...float32(2, 2), data: Float32Array.of(1, 0, 0, 1) }]]);
    const program = await state.compile(graphOf({ loss, [gradientName('w')]: slope ?? assert.fail() }), { weights });
    const takeStep = async (): Promise<void> => {
      const outputs = await program.run({ x: { ...float32(4, 3), data: new Float32Array(12).fill(0.1) } });
      assert.deepEqual(Object.keys(outputs), ['loss']);
      assert.equal(state.hasGradients, true);
      await state.step({ optimiser: adamw, learningRate: 0.1, tokenCount: 4 }, 1);
    };
    await takeStep();
    // The parameters, the frozen weight, and two moments of zeros.
    assert.equal(crossings, 4);
    for (let repeat = 0; repeat < 3; repeat++) await takeStep();
    assert.equal(crossings, 4);
    assert.notDeepEqual(await state.parameters(), initial);
    // Gradients outlive the program that made them, which is released when many others are wanted.
    await program.run({ x: { ...float32(4, 3), data: new Float32Array(12).fill(0.1) } });
    await program.release();
    await state.step({ optimiser: adamw, learningRate: 0.1, tokenCount: 4 }, 1);
    await state.release();
    await device.release();
  });
});
