import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execPath } from 'node:process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import type { Benchmark, BenchmarkOptions } from './benchmark.ts';
import { estimateNotes } from './collect-estimate.ts';
import type { ServerProcessOptions } from './fault-server-process.ts';
import { median, type Target } from './figures.ts';
import type { CollectProcessOptions } from './retort-collect.ts';

const latencyMs = 50;
const concurrency = 256;
const requestCount = 10_000;
/** Every place under way answers once a latency. */
const idealSeconds = ((requestCount / concurrency) * latencyMs) / 1000;

/** Of distilabel's requests, which take it minutes by the ten thousand. */
const rivalCount = 1000;

const manyCount = 100_000;
const answerTokens = 400;

const faultyCount = 2000;
const faultShare = 0.1;
const faultNames = [
  'rate-limited',
  'server-error',
  'reset-before-billing',
  'reset-after-billing',
  'empty-body',
  'garbage',
  'stall',
] as const;

/** As the command starts Node (src/cli/main.ts). */
const commandFlags = ['--max-semi-space-size=16'];

const root = join(import.meta.dirname, '..');

interface ServerProcess {
  readonly baseUrl: string;
  count(): Promise<z.infer<typeof countsSchema>>;
}

const countsSchema = z.object({ servedCount: z.number(), billedCount: z.number(), distinctCount: z.number(), faultyBillCount: z.number() });

/** Runs beside a fault server in a process of its own. */
const withServer = async <T>(options: ServerProcessOptions, work: (server: ServerProcess) => Promise<T>): Promise<T> => {
  const child = spawn(execPath, [join(import.meta.dirname, 'fault-server-process.ts'), JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async (): Promise<unknown> => JSON.parse((await lines.next()).value ?? 'null');
  try {
    const { baseUrl } = z.object({ baseUrl: z.string() }).parse(await read());
    return await work({
      baseUrl,
      count: async () => {
        child.stdin.write('\n');
        return countsSchema.parse(await read());
      },
    });
  } finally {
    child.stdin.end();
  }
};

const collectedSchema = z.object({
  seconds: z.number(),
  cpuSeconds: z.number(),
  startupSeconds: z.number(),
  startupCpuSeconds: z.number(),
  keptCount: z.number(),
  newCount: z.number(),
  requestCount: z.number(),
  peakMemoryBytes: z.number(),
});

/** One collection in a process of its own. */
const collectIn = async (options: CollectProcessOptions): Promise<z.infer<typeof collectedSchema>> =>
  collectedSchema.parse(
    JSON.parse(await outputOf(spawn(execPath, [...commandFlags, join(import.meta.dirname, 'retort-collect.ts'), JSON.stringify(options)]))),
  );

const outputOf = async (child: ChildProcessWithoutNullStreams): Promise<string> => {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let [output, complaint] = ['', ''];
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    complaint += chunk;
  });
  child.once('error', reject);
  child.once('close', (code) =>
    code === 0 ? resolve(output) : reject(new Error(`${child.spawnargs[1]} ended with ${code}: ${complaint.slice(-500)}`)),
  );
  return promise;
};

interface Part {
  readonly notes: readonly string[];
  readonly targets: readonly Target[];
}

type Measure = (folder: string, options: BenchmarkOptions) => Promise<Part>;

/** How close to the server's own pace. */
const measureSpeed: Measure = async (folder, { roundCount, python, log }) => {
  const [walls, cpus, theirs]: number[][] = [[], [], []];
  let failure: string | undefined;
  await withServer({ latencyMs }, async ({ baseUrl }) => {
    for (let round = 0; round < roundCount; round++) {
      const { seconds, cpuSeconds } = await collectIn({
        baseUrl,
        folder: join(folder, `speed-${round}`),
        count: requestCount,
        concurrency,
      });
      walls?.push(seconds);
      cpus?.push(cpuSeconds);
      log(`speed, round ${round + 1} of ${roundCount}: ${seconds.toFixed(2)} s, ${cpuSeconds.toFixed(2)} s of processor time`);
    }
    if (!('python' in python)) return;
    try {
      const script = join(import.meta.dirname, 'rivals', 'collect_distilabel.py');
      const options = { baseUrl, count: rivalCount, concurrency, cacheFolder: join(folder, 'distilabel') };
      const answer = JSON.parse(
        (await outputOf(spawn(python.python, ['-B', script, JSON.stringify(options)]))).trim().split('\n').at(-1) ?? '',
      );
      theirs?.push(z.object({ seconds: z.number() }).parse(answer).seconds);
    } catch (thrown) {
      failure = String(thrown).slice(0, 200);
    }
  });
  const range = (values: number[] = []): string =>
    `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`;
  return {
    notes: [
      `- ${requestCount.toLocaleString('en')} requests, ${latencyMs} ms, ${concurrency} at once: ideal ${idealSeconds.toFixed(2)} s; retort ${range(walls)} s, of which processor time ${range(cpus)} s`,
      ...(theirs?.[0] === undefined
        ? []
        : [`- distilabel, ${rivalCount.toLocaleString('en')} of them, its start included: ${theirs[0].toFixed(1)} s (one round)`]),
      ...(failure === undefined ? [] : [`- distilabel did not run: ${failure}`]),
    ],
    targets: [
      { name: 'collect, wall time against the ideal', measured: median(walls ?? []) / idealSeconds, bound: 'at most', value: 1.15 },
    ],
  };
};

/** Many long answers: memory, and how soon a run that is started again asks. */
const measureSize: Measure = (folder, { log }) =>
  withServer({ latencyMs: 5, answerWords: answerTokens }, async ({ baseUrl }) => {
    const options = { baseUrl, folder: join(folder, 'size'), concurrency: 64 };
    const whole = await collectIn({ ...options, count: manyCount });
    log(`size: ${manyCount} answers in ${whole.seconds.toFixed(0)} s, ${(whole.peakMemoryBytes / 1e6).toFixed(0)} MB`);
    const resumed = await collectIn({ ...options, count: manyCount + 100 });
    const [peakMb, resumedMb] = [whole.peakMemoryBytes / 1e6, resumed.peakMemoryBytes / 1e6];
    return {
      notes: [
        `- ${manyCount.toLocaleString('en')} answers of ${answerTokens} tokens in ${whole.seconds.toFixed(0)} s, peak ${peakMb.toFixed(0)} MB; started again with 100 questions more: first request after ${resumed.startupSeconds.toFixed(1)} s (${resumed.startupCpuSeconds.toFixed(1)} s of processor time), peak ${resumedMb.toFixed(0)} MB`,
      ],
      targets: [
        {
          name: `collect, resident memory with ${manyCount} answers`,
          measured: Math.max(peakMb, resumedMb),
          bound: 'at most',
          value: 300,
          unit: ' MB',
        },
        { name: 'collect, start of a resumed run', measured: resumed.startupSeconds, bound: 'at most', value: 3, unit: ' s' },
      ],
    };
  });

/** A provider where a tenth of all requests goes wrong. */
const measureFaults: Measure = (folder, { log }) => {
  const faults = Object.fromEntries(faultNames.map((name) => [name, faultShare / faultNames.length]));
  return withServer({ seed: 1, latencyMs: 5, retryAfterSeconds: 0.05, faults }, async ({ baseUrl, count }) => {
    const options = { baseUrl, folder: join(folder, 'faults'), count: faultyCount, concurrency: 64, timeoutMs: 5000 };
    const { keptCount, requestCount: sentCount } = await collectIn(options);
    const { billedCount, distinctCount, faultyBillCount } = await count();
    log(`faults: ${keptCount} of ${faultyCount} answers, ${billedCount} billed`);
    const twice = billedCount - distinctCount - faultyBillCount;
    return {
      notes: [
        `- ${faultShare * 100} % faults (${faultNames.join(', ')}): ${keptCount} of ${faultyCount} answers with ${sentCount} requests; ${billedCount} billed, ${faultyBillCount} of them with a fault after billing`,
      ],
      targets: [
        { name: 'collect under faults, answers in the end', measured: keptCount, bound: 'at least', value: faultyCount, unit: '' },
        { name: 'collect under faults, bought twice without a fault after billing', measured: twice, bound: 'at most', value: 0, unit: '' },
      ],
    };
  });
};

/** What is killed, by the words in which the tests say how often. */
const killed = ['the collector', 'batches of openAi', 'batches of anthropic'] as const;

/** The tests that kill the collector, with as many kills as they are meant for. */
const measureKills: Measure = async (_, { killCount, log }) => {
  const started = performance.now();
  const files = ['collect-kill.test.ts', 'collect-provider-batch.test.ts'].map((file) => join('test', file));
  const environment = { ...process.env, RETORT_KILLS: String(killCount) };
  const { status, stdout } = spawnSync(execPath, ['--test', '--test-reporter', 'spec', '--test-name-pattern', 'killed', ...files], {
    cwd: root,
    env: environment,
    encoding: 'utf8',
  });
  const minutes = (performance.now() - started) / 60_000;
  log(`kills: ended with ${status} after ${minutes.toFixed(0)} minutes`);
  const passed = Number(/^ℹ pass (\d+)$/m.exec(stdout)?.[1] ?? 0);
  // The tests count a kill only where it met a collector that had work left.
  const counts = killed.map((what) => Number(new RegExp(`ℹ (\\d+) kills of ${what}, each with work under way`).exec(stdout)?.[1] ?? 0));
  const counted = killed.map((what, index) => `${counts[index]} of ${what}`).join(', ');
  return {
    notes: [
      `- kills at random moments, each with work under way: ${counted}; ${passed} of ${killed.length} end with the same answers and no more billed than was under way (${minutes.toFixed(0)} minutes)`,
    ],
    targets: [
      { name: 'collect, kills of each with work under way', measured: Math.min(...counts), bound: 'at least', value: killCount, unit: '' },
      {
        name: 'collect, the same answers after them, three times over',
        measured: status === 0 ? passed : 0,
        bound: 'at least',
        value: killed.length,
        unit: '',
      },
    ],
  };
};

const measureEstimate: Measure = async (folder) => ({ notes: await estimateNotes(folder), targets: [] });

const parts = { speed: measureSpeed, size: measureSize, faults: measureFaults, kills: measureKills, estimate: measureEstimate };

/** Collecting from a server on this machine: speed, size, faults, kills, and an estimate beside what it then cost. */
export const collect: Benchmark = async (options) => {
  const names = Object.keys(parts) as (keyof typeof parts)[];
  const strange = options.parts.find((part) => !names.some((name) => name === part));
  if (strange !== undefined) throw new UserError(`There is no part "${strange}"; known: ${names.join(', ')}`);
  const wanted = names.filter((name) => options.parts.length === 0 || options.parts.includes(name));
  const folder = await mkdtemp(join(tmpdir(), 'retort-bench-collect-'));
  const notes: string[] = [];
  const targets: Target[] = [];
  try {
    for (const name of wanted) {
      const part = await parts[name](folder, options);
      notes.push(...part.notes);
      targets.push(...part.targets);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { workload: 'The collector against a fault server in another process of this machine', versions: {}, tables: [], notes, targets };
};
