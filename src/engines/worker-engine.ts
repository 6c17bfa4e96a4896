import { Worker } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import type { Engine, EngineInformation, EngineSpecification, Sample } from './engine.ts';
import { type CalledMethod, type Reply, type Request, receivedError } from './worker-protocol.ts';

interface PendingCall {
  readonly resolve: (result: unknown) => void;
  readonly reject: (reason: unknown) => void;
  readonly onSample?: ((index: number, sample: Sample) => void) | undefined;
}

/** An engine in a thread of its own, so that this one stays free while arithmetic runs. Calls are done in the order they are made. */
export const workerEngine = async (specification: EngineSpecification): Promise<Engine> => {
  // Beside this file, in TypeScript in the clone and in JavaScript in the package.
  const file = new URL(import.meta.url.endsWith('.ts') ? './engine-worker.ts' : './engine-worker.js', import.meta.url);
  const worker = new Worker(file, { workerData: { ...specification, layout: 'thread' } });
  const pending = new Map<number, PendingCall>();
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  let nextId = 0;
  let released = false;
  /** Why the thread is no more; a call to it would wait for ever. */
  let ended: { readonly reason: unknown } | undefined;

  const failAll = (reason: unknown): void => {
    for (const { reject } of pending.values()) reject(reason);
    pending.clear();
  };
  const information = await new Promise<EngineInformation>((resolve, reject) => {
    worker.on('message', (reply: Reply) => {
      if (reply.kind === 'ready') resolve(reply.information);
      else if (reply.kind === 'failed') reject(receivedError(reply.error));
      else receive(pending, reply);
    });
    const fail = (reason: unknown): void => {
      ended ??= { reason };
      reject(reason);
      failAll(reason);
    };
    worker.on('error', fail);
    worker.on('exit', (code) => fail(new InternalError(`the engine's thread ended by itself (code ${code})`)));
  });

  const send = (request: Request): void => worker.postMessage(request);
  const call = async <Result>(
    method: CalledMethod,
    values: readonly unknown[],
    { signal, onSample }: { signal?: AbortSignal | undefined; onSample?: PendingCall['onSample'] } = {},
  ): Promise<Result> => {
    if (released) throw new InternalError(`${method} was called on an engine that was released`);
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
  };

  return {
    information,
    forwardBackward: (rows, loss) => call('forwardBackward', [rows, loss]),
    optimStep: (options) => call('optimStep', [options]),
    forward: (rows, loss) => call('forward', [rows, loss]),
    sample: (requests, options, control = {}) =>
      call('sample', [requests, options], { signal: control.signal, onSample: control.onSample }),
    score: (rows) => call('score', [rows]),
    parameters: () => call('parameters', []),
    state: () => call('state', []),
    restore: (state) => call('restore', [state]),
    load: (parameters) => call('load', [parameters]),
    reset: (seed) => call('reset', [seed]),
    release: async () => {
      if (!released) {
        released = true;
        send({ kind: 'release' });
      }
      await exited;
    },
  };
};

const receive = (pending: Map<number, PendingCall>, reply: Exclude<Reply, { kind: 'ready' | 'failed' }>): void => {
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
