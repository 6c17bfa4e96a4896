import { workerData } from 'node:worker_threads';
import type { Engine, EngineInformation, EngineSpecification, SampleOptions, SampleRequest } from './engine.ts';
import { onnxEngine } from './onnx-engine.ts';
import { serveWorker } from './worker-server.ts';

// The worker's side of `workerEngine`.

await serveWorker<EngineInformation>(async () => {
  const engine = await onnxEngine(workerData as EngineSpecification);
  return {
    ready: engine.information,
    call: (method, values, control) => {
      if (method === 'sample') return engine.sample(...(values as [readonly SampleRequest[], SampleOptions]), control);
      // The client sends what the method's type asks for; a message cannot say so.
      const called = engine[method as Exclude<keyof Engine, 'information' | 'release'>] as (
        ...values: readonly unknown[]
      ) => Promise<unknown>;
      return called(...values);
    },
    release: () => engine.release(),
  };
});
