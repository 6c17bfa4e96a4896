import { InternalError } from '../base/errors.ts';
import type { Arrays } from '../optim/optimiser.ts';
import type { Sample, SampleControl, SampleOptions, SampleRequest } from './engine.ts';
import type { Runner } from './runner.ts';

/**
 * Runners of one model that share its work. Runs of one thread each, side by side, are done sooner than runs of several threads one after
 * the other, since none waits for another's part of an operation; work that cannot be shared gets all threads.
 */
export interface RunnerTeam {
  adopt(parameters: Arrays): Promise<void>;
  /**
   * Has each item done by a runner that is free; hands results to `take` in the items' order as soon as all before them are there, and holds
   * none any longer: they may be gradients, as large as the parameters.
   */
  inOrder<Item, Result>(
    items: readonly Item[],
    work: (runner: Runner, item: Item, index: number, threadCount: number | undefined) => Promise<Result>,
    take: (item: Item, result: Result) => void,
  ): Promise<void>;
  sample(requests: readonly SampleRequest[], options: SampleOptions, control: SampleControl): Promise<Sample[]>;
  release(): Promise<void>;
}

/**
 * Sequences below which a runner's decoding mostly waits for the weights, which a second runner would read once more, and keep a packed copy
 * of: with SmolLM2, two runners of 16 are as fast as one of 32, and two of 32 by 4 % faster than one of 64.
 */
const leastShare = 32;

/** @param threadCount of all runners together; absent: as many as the machine has */
export const runnerTeam = (runners: readonly Runner[], threadCount: number | undefined): RunnerTeam => {
  const [first] = runners;
  if (first === undefined) throw new InternalError('a team of no runners');
  let adopted: Arrays | undefined;
  /** What a run that is alone may take: a single runner has it by itself. */
  const all = runners.length === 1 ? undefined : (threadCount ?? runners.length);

  const inOrder: RunnerTeam['inOrder'] = async (items, work, take) => {
    const untaken = new Map<number, () => void>();
    let next = 0;
    const queue = items.entries();
    await allOrFirstFailure(
      runners.map(async (runner) => {
        for (const [index, item] of queue) {
          const result = await work(runner, item, index, items.length === 1 ? all : undefined);
          untaken.set(index, () => take(item, result));
          for (let takeNext = untaken.get(next); takeNext !== undefined; takeNext = untaken.get(next)) {
            takeNext();
            untaken.delete(next++);
          }
        }
      }),
    );
  };

  const sample: RunnerTeam['sample'] = async (requests, options, control) => {
    const sharing = requests.length < leastShare * runners.length ? [first] : runners;
    const samples: Sample[] = [];
    await allOrFirstFailure(
      sharing.map(async (runner, dealer) => {
        const places = requests.flatMap((_, place) => (place % sharing.length === dealer ? [place] : []));
        const drawn = await runner.sample(
          places.map((place) => requests[place] as SampleRequest),
          { ...options, ...(sharing.length === 1 && all !== undefined && { threadCount: all }) },
          { ...control, onSample: (index, sample) => control.onSample?.(places[index] as number, sample) },
        );
        drawn.forEach((one, index) => {
          samples[places[index] as number] = one;
        });
      }),
    );
    return samples;
  };

  return {
    adopt: async (parameters) => {
      if (adopted === parameters) return;
      await Promise.all(runners.map((runner) => runner.adopt(parameters)));
      adopted = parameters;
    },
    inOrder,
    sample,
    release: () => releaseRunners(runners),
  };
};

export const releaseRunners = async (runners: readonly Runner[]): Promise<void> => {
  for (const runner of runners) await runner.release();
};

/** Waits for all, so that nothing is under way any more when the first failure is thrown. */
const allOrFirstFailure = async (works: readonly Promise<void>[]): Promise<void> => {
  const ends = await Promise.allSettled(works);
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
};
