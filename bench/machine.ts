import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg, totalmem } from 'node:os';
import { versions } from 'node:process';

/** Instruction sets that decide how fast matrix products are, by the names that Linux gives them. */
const telling = [
  'avx',
  'f16c',
  'fma',
  'avx2',
  'avx512f',
  'avx512bw',
  'avx_vnni',
  'avx512_vnni',
  'avx512_bf16',
  'amx_bf16',
  'amx_int8',
  'asimddp',
  'i8mm',
  'bf16',
  'sve',
];

const fileText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};

/** Instruction sets of this processor among those that matter; empty where the system does not tell (only Linux does, in a file). */
export const instructionSets = (): string[] => {
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(fileText('/proc/cpuinfo'))?.[1]?.split(/\s+/) ?? []);
  return telling.filter((name) => flags.has(name));
};

/** What a reader needs to judge the figures, as lines of Markdown. */
export const machineLines = (onnxRuntimeVersion: string): string[] => {
  const cores = cpus();
  const sets = instructionSets();
  return [
    `- processor: ${cores[0]?.model.trim() ?? 'unknown'}, ${cores.length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    `- instruction sets: ${sets.length === 0 ? 'not told by this system' : sets.join(', ')}`,
    `- Node ${versions.node}, onnxruntime-node ${onnxRuntimeVersion}`,
  ];
};

/** Runnable processes over the last minute, per core: near 0 on a quiet machine, and above 0.3 figures mean little. */
export const loadPerCore = (): number => (loadavg()[0] ?? 0) / Math.max(1, cpus().length);

/** Starts this process's high-water mark of memory anew (Linux; elsewhere the peak is that of the whole process). */
export const resetPeakMemory = (): Promise<void> => writeFile('/proc/self/clear_refs', '5').catch(() => undefined);

export const peakMemoryBytes = (): number => {
  const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(fileText('/proc/self/status'))?.[1];
  return kilobytes === undefined ? process.resourceUsage().maxRSS * 1024 : Number(kilobytes) * 1024;
};
