import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';

/**
 * Some providers share one context among all sessions of the process and do not guard it: two threads inside WebGPU at once end the process
 * with a segmentation fault (onnxruntime-node 1.30). What is done on such a device is done by one thread at a time: a lock in memory that
 * every thread begun after this file was loaded shares, and in each thread a queue in front of it, since whoever holds the lock lets go of the
 * thread between runs.
 */
const lockKey = 'retort:device-lock';
const lock = new Int32Array((getEnvironmentData(lockKey) as SharedArrayBuffer | undefined) ?? new SharedArrayBuffer(4));
setEnvironmentData(lockKey, lock.buffer);

let last: Promise<unknown> = Promise.resolve();
const leftovers: (() => Promise<void> | void)[] = [];

/** Does the work when no other thread, and nothing earlier of this one, is on the device. */
export const oneThreadAtATime = <Result>(work: () => Promise<Result>): Promise<Result> => {
  const turn = last.then(async () => {
    while (Atomics.compareExchange(lock, 0, 0, 1) !== 0) Atomics.wait(lock, 0, 1);
    try {
      for (const leftover of leftovers.splice(0)) await leftover();
      return await work();
    } finally {
      Atomics.store(lock, 0, 0);
      Atomics.notify(lock, 0, 1);
    }
  });
  last = turn.catch(() => undefined);
  return turn;
};

/** Something small that wants the device too, done at the beginning of this thread's next turn: freeing a tensor need not be waited for. */
export const atNextTurn = (leftover: () => Promise<void> | void): void => {
  leftovers.push(leftover);
};
