import type { Engine, EngineInformation, EngineSpecification } from './engine.ts';
import { startWorker } from './worker-client.ts';

/** An engine in a thread of its own, so that this one stays free while arithmetic runs. Calls are done in the order they are made. */
export const workerEngine = async (specification: EngineSpecification): Promise<Engine> => {
  const { ready, call, release } = await startWorker<EngineInformation>(new URL('./engine-worker.ts', import.meta.url), {
    ...specification,
    layout: 'thread',
  });
  return {
    information: ready,
    forwardBackward: (rows, loss, limits) => call('forwardBackward', [rows, loss, limits]),
    optimStep: (options) => call('optimStep', [options]),
    forward: (rows, loss, limits) => call('forward', [rows, loss, limits]),
    sample: (requests, options, control) => call('sample', [requests, options], control),
    score: (rows) => call('score', [rows]),
    parameters: () => call('parameters', []),
    state: () => call('state', []),
    restore: (state) => call('restore', [state]),
    load: (parameters) => call('load', [parameters]),
    reset: (seed) => call('reset', [seed]),
    release,
  };
};
