import { totalmem } from 'node:os';

/** What this process may take: the machine's memory, or a container's limit where it is lower. */
export const memoryBytes = (): number => {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
};

/** As people write it: `1.2 GB`. */
export const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
