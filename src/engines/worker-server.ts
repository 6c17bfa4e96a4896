import { parentPort } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import type { SampleControl } from './engine.ts';
import { type Reply, type Request, sentError } from './worker-protocol.ts';

/** What a worker does. */
export interface Service<Ready> {
  readonly ready: Ready;
  call(method: string, values: readonly unknown[], control: SampleControl): Promise<unknown>;
  release(): Promise<void>;
}

/**
 * The worker's side of `startWorker`: loads, then does calls one after the other in the order in which they come. `moved` names buffers of a
 * result that go over without being copied.
 */
export const serveWorker = async <Ready>(
  load: () => Promise<Service<Ready>>,
  moved: (result: unknown) => readonly ArrayBuffer[] = () => [],
): Promise<void> => {
  const port = parentPort;
  if (port === null) throw new InternalError('this file runs as a worker thread only');
  const post = (reply: Reply<Ready>, buffers: readonly ArrayBuffer[] = []): void => port.postMessage(reply, [...buffers]);

  const serve = (service: Service<Ready>): void => {
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
          await service.release();
          // Nothing keeps the thread alive any more, so that it ends by itself.
          port.close();
        });
        return;
      }
      const { id, method } = request;
      const controller = new AbortController();
      running.set(id, controller);
      enqueue(async () => {
        try {
          const control: SampleControl = {
            signal: controller.signal,
            onSample: (index, sample) => post({ kind: 'sample', id, index, sample }),
          };
          const result = await service.call(method, request.arguments, control);
          post({ kind: 'result', id, result }, moved(result));
        } catch (thrown) {
          post({ kind: 'error', id, error: sentError(thrown) });
        } finally {
          running.delete(id);
        }
      });
    });
  };

  try {
    const service = await load();
    serve(service);
    post({ kind: 'ready', ready: service.ready });
  } catch (thrown) {
    post({ kind: 'failed', error: sentError(thrown) });
    port.close();
  }
};
