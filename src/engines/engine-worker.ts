import { parentPort, workerData } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import type { Engine, EngineSpecification, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import { onnxEngine } from './onnx-engine.ts';
import { type Reply, type Request, sentError } from './worker-protocol.ts';

// The worker's side: one engine, whose calls are done one after the other in the order in which they come.

const port = parentPort;
if (port === null) throw new InternalError('engine-worker.ts runs as a worker thread only');

const post = (reply: Reply): void => port.postMessage(reply);

const call = (engine: Engine, request: Extract<Request, { kind: 'call' }>, signal: AbortSignal): Promise<unknown> => {
  if (request.method !== 'sample') {
    // The client sends what the method's type asks for; a message cannot say so.
    const method = engine[request.method] as (...values: readonly unknown[]) => Promise<unknown>;
    return method(...request.arguments);
  }
  const [requests, options] = request.arguments as [readonly SampleRequest[], SampleOptions];
  const control: SampleControl = { signal, onSample: (index, sample) => post({ kind: 'sample', id: request.id, index, sample }) };
  return engine.sample(requests, options, control);
};

const serve = (engine: Engine): void => {
  const running = new Map<number, AbortController>();
  let last: Promise<unknown> = Promise.resolve();
  const enqueue = (work: () => Promise<void>): void => {
    last = last.then(work);
  };
  port.on('message', (request: Request) => {
    if (request.kind === 'abort') {
      running.get(request.id)?.abort();
      return;
    }
    if (request.kind === 'release') {
      enqueue(async () => {
        await engine.release();
        // Nothing keeps the thread alive any more, so that it ends by itself.
        port.close();
      });
      return;
    }
    const controller = new AbortController();
    running.set(request.id, controller);
    enqueue(async () => {
      try {
        post({ kind: 'result', id: request.id, result: await call(engine, request, controller.signal) });
      } catch (thrown) {
        post({ kind: 'error', id: request.id, error: sentError(thrown) });
      } finally {
        running.delete(request.id);
      }
    });
  });
};

try {
  const engine = await onnxEngine(workerData as EngineSpecification);
  serve(engine);
  post({ kind: 'ready', information: engine.information });
} catch (thrown) {
  post({ kind: 'failed', error: sentError(thrown) });
  port.close();
}
