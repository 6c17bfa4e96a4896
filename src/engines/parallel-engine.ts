import { InternalError } from '../base/errors.ts';
import type { Engine } from './engine.ts';

/**
 * Several engines of one model as one, for a model that is not trained: rows and requests are dealt out among them. Runs of one thread each,
 * side by side, are done sooner than runs of several threads one after the other, since none waits for another's part of an operation.
 */
export const parallelEngine = (engines: readonly Engine[]): Engine => {
  const [first] = engines;
  if (first === undefined) throw new InternalError('a parallel engine of no engines');
  const refuse = (method: string) => (): never => {
    throw new InternalError(`${method} was called on a parallel engine, whose model is not trained`);
  };
  /** Deals items out by their place, has each engine do its share, and puts the results back into the items' order. */
  const dealt = async <Item, Result>(
    items: readonly Item[],
    work: (engine: Engine, share: readonly Item[], places: readonly number[]) => Promise<Result[]>,
  ) => {
    const results: Result[] = [];
    const ends = await Promise.allSettled(
      engines.map(async (engine, dealer) => {
        const places = items.flatMap((_, place) => (place % engines.length === dealer ? [place] : []));
        if (places.length === 0) return;
        const share = places.map((place) => items[place] as Item);
        (await work(engine, share, places)).forEach((result, index) => {
          results[places[index] as number] = result;
        });
      }),
    );
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return results;
  };
  return {
    information: first.information,
    forward: (rows, loss) => dealt(rows, (engine, share) => engine.forward(share, loss)),
    score: (requests) => dealt(requests, (engine, share) => engine.score(share)),
    sample: (requests, options, control = {}) =>
      dealt(requests, (engine, share, places) =>
        engine.sample(share, options, {
          ...control,
          onSample: (index, sample) => control.onSample?.(places[index] as number, sample),
        }),
      ),
    parameters: () => first.parameters(),
    state: () => first.state(),
    forwardBackward: refuse('forwardBackward'),
    optimStep: refuse('optimStep'),
    restore: refuse('restore'),
    load: refuse('load'),
    reset: refuse('reset'),
    release: async () => {
      for (const engine of engines) await engine.release();
    },
  };
};
