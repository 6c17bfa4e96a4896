import { Worker } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import type { Sample } from './engine.ts';
import { type Reply, type Request, receivedError } from './worker-protocol.ts';

/** What answers in a thread of its own. Calls are done in the order they are made. */
export interface WorkerClient<Ready> {
  /** What the thread said of itself when it had loaded. */
  readonly ready: Ready;
  call<Result>(method: string, values: readonly unknown[], control?: CallControl): Promise<Result>;
  /** Lets the calls that were made be done, then ends the thread. */
  release(): Promise<void>;
}

export interface CallControl {
  readonly signal?: AbortSignal | undefined;
  readonly onSample?: ((index: number, sample: Sample) => void) | undefined;
}

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
  readonly onSample: CallControl['onSample'];
}

/** Starts a worker, named by its TypeScript file, and waits until it has loaded. */
export const startWorker = async <Ready>(file: URL, data: unknown): Promise<WorkerClient<Ready>> => {
  // In the package it lies there in JavaScript, as this file does.
  const worker = new Worker(import.meta.url.endsWith('.ts') ? file : new URL(file.href.replace(/\.ts$/, '.js')), { workerData: data });
  const pending = new Map<number, PendingCall>();
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  let nextId = 0;
  let released = false;
  /** Why the thread is no more; a call to it would wait for ever. */
  let ended: { readonly reason: unknown } | undefined;

  const ready = await new Promise<Ready>((resolve, reject) => {
    worker.on('message', (reply: Reply<Ready>) => {
      if (reply.kind === 'ready') resolve(reply.ready);
      else if (reply.kind === 'failed') reject(receivedError(reply.error));
      else receive(pending, reply);
    });
    const fail = (reason: unknown): void => {
      ended ??= { reason };
      reject(reason);
      for (const call of pending.values()) call.reject(reason);
      pending.clear();
    };
    worker.on('error', fail);
    worker.on('exit', (code) => fail(new InternalError(`a worker thread ended by itself (code ${code})`)));
  });

  const send = (request: Request): void => worker.postMessage(request);
  return {
    ready,
    call: async <Result>(method: string, values: readonly unknown[], { signal, onSample }: CallControl = {}): Promise<Result> => {
      if (released) throw new InternalError(`${method} was called on a worker that was released`);
      if (ended !== undefined) throw ended.reason;
      signal?.throwIfAborted();
      const id = nextId++;
      const abort = (): void => send({ kind: 'abort', id });
      signal?.addEventListener('abort', abort, { once: true });
      const answered = new Promise<Result>((resolve, reject) => {
        pending.set(id, { resolve: (result) => resolve(result as Result), reject, onSample });
        send({ kind: 'call', id, method, arguments: values });
      });
      return answered
        .catch((reason: unknown) => {
          // The reason stayed on this side of the border.
          throw signal?.aborted === true ? signal.reason : reason;
        })
        .finally(() => signal?.removeEventListener('abort', abort));
    },
    release: async () => {
      if (!released) {
        released = true;
        send({ kind: 'release' });
      }
      await exited;
    },
  };
};

const receive = (pending: Map<number, PendingCall>, reply: Exclude<Reply<never>, { kind: 'ready' | 'failed' }>): void => {
  const waiting = pending.get(reply.id);
  if (waiting === undefined) return;
  if (reply.kind === 'sample') {
    waiting.onSample?.(reply.index, reply.sample);
    return;
  }
  pending.delete(reply.id);
  if (reply.kind === 'result') waiting.resolve(reply.result);
  else waiting.reject(receivedError(reply.error));
};
