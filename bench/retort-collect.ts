// Collects from a server until it is done: `node retort-collect.ts '{"baseUrl", "folder", "count", …}'` says how long it took.
import { stdout } from 'node:process';
import { strategies } from '../src/priming/strategies.ts';
import { collect } from '../src/responses/collect.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';
import { peakMemoryBytes } from './machine.ts';

export interface CollectProcessOptions {
  readonly baseUrl: string;
  readonly folder: string;
  readonly count: number;
  readonly concurrency: number;
  readonly timeoutMs?: number;
}

const { baseUrl, folder, count, concurrency, timeoutMs }: CollectProcessOptions = JSON.parse(process.argv[2] ?? '{}');
const examples = Array.from({ length: count }, (_, index) => ({
  id: `train/${index}`,
  question: `What is ${index} + 1?`,
  solution: `#### ${index + 1}`,
  gold: String(index + 1),
}));
const strategy = strategies['none'];
if (strategy === undefined) throw new Error('no strategy none');
const teacher = openAiCompatibleTeacher({ baseUrl, model: 'big', concurrency, environment: {}, timeoutMs });
const sampling = { maximumTokens: 512, temperature: 0.5, topP: 1, seed: 3 };
// Short waits: what is measured is the collector, not its patience.
const retries = { firstWaitMs: 20, longestWaitMs: 200, maximumTries: 20, maximumFirstTries: 20 };
let firstSentAfterMs: number | undefined;
let startupCpuSeconds = 0;
const cpuSecondsSince = (before?: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
};
const timed = {
  ...teacher,
  generate: (request: Parameters<typeof teacher.generate>[0]) => {
    if (firstSentAfterMs === undefined) {
      firstSentAfterMs = performance.now(); // Since the process began.
      startupCpuSeconds = cpuSecondsSince();
    }
    return teacher.generate(request);
  },
};
try {
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  const report = await collect({ examples, task: gsm8k, strategy, teacher: timed, sampling, folder, retries });
  const seconds = (performance.now() - startMs) / 1000;
  const cpuSeconds = cpuSecondsSince(cpuBefore);
  const { keptCount, newCount, requestCount } = report;
  const startupSeconds = (firstSentAfterMs ?? performance.now()) / 1000;
  stdout.write(
    `${JSON.stringify({ seconds, cpuSeconds, startupSeconds, startupCpuSeconds, keptCount, newCount, requestCount, peakMemoryBytes: peakMemoryBytes() })}\n`,
  );
} finally {
  await teacher.release();
}
