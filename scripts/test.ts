// Runs everything that says whether the tree is right, cheapest first: format and lint, types, then the tests tier by tier. It stops at the
// first stage that fails and ends with node:test's own closing lines, summed over the tiers.
//   npm test                     everything
//   npm test -- unit runtime     these stages only
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { readTiers, type Tier, tierNames } from './test-tiers.ts';

const root = join(import.meta.dirname, '..');
const script = (name: string, ...path: string[]) => ({ name, path: join(root, 'node_modules', ...path) });
const checks = [
  { ...script('format and lint', '@biomejs', 'biome', 'bin', 'biome'), arguments: ['ci', '--error-on-warnings'] },
  { ...script('types', 'typescript', 'bin', 'tsc'), arguments: ['-p', '.'] },
];

const countNames = ['tests', 'suites', 'passed', 'cancelled', 'skipped', 'todo'] as const;
type Counts = Record<(typeof countNames)[number], number>;

/** Runs a tier's files, each in a process of its own, and prints as it goes. */
const runTier = async (tier: Tier, total: Counts): Promise<boolean> => {
  let passed = true;
  const stream = run({
    cwd: root,
    files: tier.files.map((path) => join(root, path)),
    // ONNX Runtime uses all cores by itself, and timings of trained toys mean something only alone
    concurrency: tier.name === 'unit' ? availableParallelism() : 1,
  });
  stream.on('test:fail', (event) => {
    if (event.todo === undefined || event.todo === false) passed = false;
  });
  stream.on('test:summary', ({ file, counts }) => {
    if (file !== undefined) return; // one per file and one for the whole run: only the latter is new
    for (const name of countNames) total[name] += counts[name];
  });
  const printed = stream.compose(new spec());
  for await (const text of printed) process.stdout.write(text);
  return passed;
};

const main = async (): Promise<boolean> => {
  const tiers = readTiers();
  const known = [...checks.map(({ name }) => name), ...tierNames];
  const chosen = process.argv.slice(2);
  const strange = chosen.find((name) => !known.includes(name));
  if (strange !== undefined) {
    console.error(`No stage is called ${strange}. Stages: ${known.join(', ')}.`);
    return false;
  }
  const wanted = (name: string): boolean => chosen.length === 0 || chosen.includes(name);
  for (const check of checks.filter(({ name }) => wanted(name))) {
    console.log(`── ${check.name}`);
    if (spawnSync(process.execPath, [check.path, ...check.arguments], { cwd: root, stdio: 'inherit' }).status !== 0) return false;
  }
  const started = performance.now();
  const total: Counts = { tests: 0, suites: 0, passed: 0, cancelled: 0, skipped: 0, todo: 0 };
  let passed = true;
  for (const tier of tiers) {
    if (!passed || !wanted(tier.name) || tier.files.length === 0) continue;
    console.log(`── ${tier.name}: ${tier.files.length} ${tier.files.length === 1 ? 'file' : 'files'}`);
    passed = await runTier(tier, total);
  }
  const { tests, suites, passed: pass, cancelled, skipped, todo } = total;
  const lines = { tests, suites, pass, fail: tests - pass - cancelled - skipped - todo, cancelled, skipped, todo };
  console.log('── all tiers');
  for (const [name, count] of Object.entries(lines)) console.log(`ℹ ${name} ${count}`);
  console.log(`ℹ duration_ms ${Math.round(performance.now() - started)}`);
  return passed;
};

process.exitCode = (await main()) ? 0 : 1;
