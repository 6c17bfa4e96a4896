import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import process, { env, stderr, stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { messageOf, nearestName, UserError } from '../src/base/errors.ts';
import { attention } from './attention.ts';
import type { Benchmark, BenchmarkReport } from './benchmark.ts';
import { collect } from './collect.ts';
import { table, targetLine } from './figures.ts';
import { generate } from './generate.ts';
import { loadPerCore, machineLines } from './machine.ts';
import { pythonEnvironment, type Rivals } from './python-environment.ts';
import { train } from './train.ts';

interface Row {
  readonly measure: Benchmark;
  readonly wantsModel: boolean;
  readonly rivals: Rivals;
}

const modelRivals: Rivals = { imports: 'import torch, transformers, peft, gguf', requirements: 'requirements.txt', folder: 'bench-python' };
const collectRivals: Rivals = { imports: 'import distilabel', requirements: 'requirements-collect.txt', folder: 'bench-python-collect' };

const benchmarks: Readonly<Record<string, Row>> = {
  train: { measure: train, wantsModel: true, rivals: modelRivals },
  generate: { measure: generate, wantsModel: true, rivals: modelRivals },
  attention: { measure: attention, wantsModel: true, rivals: modelRivals },
  collect: { measure: collect, wantsModel: false, rivals: collectRivals },
};

const usage = `npm run bench -- NAME [PART...] [options]      NAME: ${Object.keys(benchmarks).join(', ')}

  --models FOLDER        the folder that holds smollm2-135m-instruct (default: RETORT_MODELS)
  --python PATH          a Python with torch, transformers, peft and gguf, for collect with distilabel (default: RETORT_PYTHON, then one in .cache)
  --create-environment   make that environment in .cache first
  --rounds N             how often each contestant is measured, in turn (default 5)
  --threads N            threads of each contestant (default: as many as there are cores)
  --kills N              how often collect kills each collector (default 200)
  --compiled             also torch.compile, which takes minutes to begin
`;

const countOf = (text: string, option: string): number => {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new UserError(`--${option} wants a whole number from 1, not "${text}"`);
  return count;
};

const onnxRuntimeVersion = (): string => {
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node');
  const file = join(dirname(dirname(entry)), 'package.json');
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, 'utf8'))).version;
};

const print = (name: string, report: BenchmarkReport, load: { before: number; after: number }, skipped: string | undefined): void => {
  const rivalVersions = Object.entries(report.versions).map(([tool, version]) => `${tool} ${version}`);
  const lines = [
    `## ${name}, ${new Date().toISOString().slice(0, 10)}`,
    '',
    report.workload,
    '',
    ...machineLines(onnxRuntimeVersion()),
    ...(rivalVersions.length === 0 ? [] : [`- ${rivalVersions.join(', ')}`]),
    `- load per core before and after: ${load.before.toFixed(2)}, ${load.after.toFixed(2)}${load.before > 0.3 ? ' (other work was running: the figures are doubtful)' : ''}`,
    ...(skipped === undefined ? [] : [`- compared with nothing: ${skipped}`]),
    ...(report.notes === undefined ? [] : ['', ...report.notes]),
    ...report.tables.flatMap(({ title, contestants }) => ['', `### ${title}`, '', ...table(contestants)]),
    '',
    ...report.targets.map(targetLine),
  ];
  stdout.write(`${lines.join('\n')}\n`);
};

const modelFolderIn = (models: string | undefined): string => {
  if (models === undefined) throw new UserError('This benchmark wants real weights: set RETORT_MODELS, or pass --models FOLDER');
  const folder = join(models, 'smollm2-135m-instruct');
  if (!existsSync(folder)) throw new UserError(`There is no folder ${folder}: RETORT_MODELS or --models must hold smollm2-135m-instruct`);
  return folder;
};

const main = async (): Promise<void> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      models: { type: 'string' },
      python: { type: 'string' },
      'create-environment': { type: 'boolean', default: false },
      rounds: { type: 'string', default: '5' },
      threads: { type: 'string' },
      kills: { type: 'string', default: '200' },
      compiled: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const [name, ...parts] = positionals;
  if (values.help || name === undefined) {
    stdout.write(usage);
    return;
  }
  const benchmark = benchmarks[name];
  if (benchmark === undefined) {
    const nearest = nearestName(name, Object.keys(benchmarks));
    throw new UserError(
      `There is no benchmark "${name}"${nearest === undefined ? '' : `; did you mean ${nearest}?`} Known: ${Object.keys(benchmarks).join(', ')}`,
    );
  }
  const modelFolder = benchmark.wantsModel ? modelFolderIn(values.models ?? env.RETORT_MODELS) : '';
  const python = pythonEnvironment(values.python ?? env.RETORT_PYTHON, values['create-environment'], benchmark.rivals);
  const before = loadPerCore();
  const report = await benchmark.measure({
    modelFolder,
    parts,
    python,
    roundCount: countOf(values.rounds, 'rounds'),
    threadCount: values.threads === undefined ? availableParallelism() : countOf(values.threads, 'threads'),
    killCount: countOf(values.kills, 'kills'),
    withCompiled: values.compiled,
    log: (line) => stderr.write(`${line}\n`),
  });
  print(name, report, { before, after: loadPerCore() }, 'missing' in python ? python.missing : undefined);
};

try {
  await main();
} catch (error) {
  stderr.write(`${messageOf(error)}\n`);
  process.exitCode = error instanceof UserError ? 1 : 2;
}
