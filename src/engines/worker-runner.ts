import type { EngineSpecification } from './engine.ts';
import type { Runner } from './runner.ts';
import { startWorker } from './worker-client.ts';

/** A runner in a thread of its own. */
export const workerRunner = async (specification: EngineSpecification): Promise<Runner> => {
  const { call, release } = await startWorker<undefined>(new URL('./runner-worker.ts', import.meta.url), specification);
  return {
    adopt: (parameters) => call('adopt', [parameters]),
    losses: (task) => call('losses', [task]),
    sample: (requests, options, control) => call('sample', [requests, options], control),
    score: (request) => call('score', [request]),
    release,
  };
};
