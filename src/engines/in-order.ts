import { InternalError } from '../base/errors.ts';
import type { Engine } from './engine.ts';

/**
 * An engine whose calls are done one after the other in the order they are made, as a worker's are, so that callers need not wait between
 * `forwardBackward` and `optimStep`; after `release` it answers none.
 */
export const inOrder = (engine: Engine): Engine => {
  let last: Promise<unknown> = Promise.resolve();
  let released: Promise<void> | undefined;
  const enqueue = async <Result>(method: string, work: () => Promise<Result>): Promise<Result> => {
    if (released !== undefined) throw new InternalError(`${method} was called on an engine that was released`);
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };
  return {
    information: engine.information,
    forwardBackward: (rows, loss, limits) => enqueue('forwardBackward', () => engine.forwardBackward(rows, loss, limits)),
    optimStep: (options) => enqueue('optimStep', () => engine.optimStep(options)),
    forward: (rows, loss, limits) => enqueue('forward', () => engine.forward(rows, loss, limits)),
    sample: (requests, options, control) => enqueue('sample', () => engine.sample(requests, options, control)),
    score: (rows) => enqueue('score', () => engine.score(rows)),
    parameters: () => enqueue('parameters', () => engine.parameters()),
    state: () => enqueue('state', () => engine.state()),
    restore: (state) => enqueue('restore', () => engine.restore(state)),
    load: (parameters) => enqueue('load', () => engine.load(parameters)),
    reset: (seed) => enqueue('reset', () => engine.reset(seed)),
    release: () => {
      released ??= last.then(() => engine.release());
      return released;
    },
  };
};
