import { cpus, totalmem } from 'node:os';
import type { Machine } from './manifest.ts';

/** The machine that this process runs on, as far as results or times depend on it. */
export const thisMachine = (): Machine => {
  const cores = cpus();
  return {
    platform: process.platform,
    architecture: process.arch,
    processor: cores[0]?.model.trim() || 'unknown',
    coreCount: Math.max(1, cores.length),
    memoryBytes: totalmem(),
  };
};
