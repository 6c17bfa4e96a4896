import { workerData } from 'node:worker_threads';
import type { EngineSpecification, SampleOptions, SampleRequest } from './engine.ts';
import { loadModel } from './loaded-model.ts';
import { onnxRunner } from './onnx-runner.ts';
import type { LossOutcome, Runner } from './runner.ts';
import { serveWorker } from './worker-server.ts';

// The worker's side of `workerRunner`.

/** Gradients are as large as the parameters, and nobody here reads them again. */
const gradientBuffers = (result: unknown): ArrayBuffer[] => {
  const gradients = (result as LossOutcome | undefined)?.gradients ?? {};
  const buffers = Object.values(gradients).map(({ buffer }) => buffer);
  return [...new Set(buffers.filter((buffer) => buffer instanceof ArrayBuffer))];
};

await serveWorker<undefined>(async () => {
  const specification = workerData as EngineSpecification;
  const runner = onnxRunner(specification, await loadModel(specification));
  return {
    ready: undefined,
    call: (method, values, control) => {
      if (method === 'sample') return runner.sample(...(values as [readonly SampleRequest[], SampleOptions]), control);
      // The client sends what the method's type asks for; a message cannot say so.
      const called = runner[method as Exclude<keyof Runner, 'release'>] as (...values: readonly unknown[]) => Promise<unknown>;
      return called(...values);
    },
    release: () => runner.release(),
  };
}, gradientBuffers);
