import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';

/** scripts/setup.mjs in a clone of its own, with an npm that only notes how it was called. */
describe('set-up', () => {
  let clone = '';
  beforeEach(() => {
    clone = mkdtempSync(join(tmpdir(), 'retort-setup-'));
    write('scripts/setup.mjs', readFileSync(join(import.meta.dirname, '..', 'scripts', 'setup.mjs'), 'utf8'));
    write('package-lock.json', lock({ 'node_modules/a': '1.0.0', 'node_modules/a/node_modules/b': '2.0.0' }));
    // what `npm ci` leaves behind: the packages, and its own account of them
    write(
      'npm.js',
      `const fs = require('node:fs');
fs.appendFileSync('calls', process.argv.slice(2).join(' ') + ' ' + process.env.ONNXRUNTIME_NODE_INSTALL + '\\n');
for (const path of Object.keys(JSON.parse(fs.readFileSync('package-lock.json', 'utf8')).packages)) if (path) fs.mkdirSync(path, { recursive: true });
fs.mkdirSync('node_modules/.bin', { recursive: true });
fs.writeFileSync('node_modules/.bin/node', '');
fs.copyFileSync('package-lock.json', 'node_modules/.package-lock.json');
process.exit(Number(process.env.NPM_ENDS_WITH ?? 0));`,
    );
  });
  afterEach(() => rmSync(clone, { recursive: true, force: true }));

  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(clone, path)), { recursive: true });
    writeFileSync(join(clone, path), text);
  };
  const lock = (packages: Readonly<Record<string, string>>, more: object = {}): string =>
    JSON.stringify({
      packages: { '': {}, ...Object.fromEntries(Object.entries(packages).map(([path, version]) => [path, { version }])), ...more },
    });
  const setUp = (environment: Readonly<Record<string, string>> = {}) =>
    spawnSync(process.execPath, ['scripts/setup.mjs'], {
      cwd: clone,
      encoding: 'utf8',
      env: { ...process.env, npm_execpath: join(clone, 'npm.js'), ...environment },
    });
  const calls = (): string[] => (existsSync(join(clone, 'calls')) ? readFileSync(join(clone, 'calls'), 'utf8').trim().split('\n') : []);

  it('installs from the lockfile in a fresh clone, without the CUDA files, and then does nothing', () => {
    const first = setUp();
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stdout, /installing from package-lock\.json/);
    assert.deepEqual(calls(), ['ci --no-audit --no-fund --loglevel=error skip']);
    const second = setUp();
    assert.deepEqual([second.status, second.stdout, second.stderr], [0, '', '']);
    assert.equal(calls().length, 1);
  });

  it('installs again when the lockfile names another version, or a package is gone', () => {
    setUp();
    write('package-lock.json', lock({ 'node_modules/a': '1.0.1', 'node_modules/a/node_modules/b': '2.0.0' }));
    assert.match(setUp().stdout, /node_modules\/a to come/);
    rmSync(join(clone, 'node_modules/a/node_modules/b'), { recursive: true });
    assert.match(setUp().stdout, /node_modules\/a\/node_modules\/b to come/);
    assert.equal(calls().length, 3);
  });

  it('does not wait for what other platforms need', () => {
    setUp();
    const elsewhere = process.platform === 'darwin' ? 'linux' : 'darwin';
    const optional = {
      'node_modules/elsewhere': { version: '1.0.0', optional: true, os: [elsewhere] },
      'node_modules/not-here': { version: '1.0.0', optional: true, os: [`!${process.platform}`] },
    };
    write('package-lock.json', lock({ 'node_modules/a': '1.0.0', 'node_modules/a/node_modules/b': '2.0.0' }, optional));
    assert.equal(setUp().stdout, '');
    const here = { 'node_modules/here': { version: '1.0.0', optional: true, os: [process.platform], cpu: process.arch } };
    write('package-lock.json', lock({ 'node_modules/a': '1.0.0', 'node_modules/a/node_modules/b': '2.0.0' }, here));
    assert.match(setUp().stdout, /node_modules\/here to come/);
  });

  it('fails when npm fails, and says what to do', () => {
    const { status, stderr } = setUp({ NPM_ENDS_WITH: '7' });
    assert.equal(status, 1);
    assert.match(stderr, /set-up: `npm ci` ended with 7: see its message above, then run the same command again/);
  });

  it('needs a whole lockfile', () => {
    write('package-lock.json', '{');
    assert.match(setUp().stderr, /package-lock\.json is missing or broken/);
  });

  it('finds nothing to do in the clone that this test runs in', () => {
    copyFileSync(join(import.meta.dirname, '..', 'package-lock.json'), join(clone, 'package-lock.json'));
    const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, '..', 'scripts', 'setup.mjs')], {
      encoding: 'utf8',
      env: { ...process.env, npm_execpath: join(clone, 'npm.js') },
      cwd: clone,
    });
    assert.deepEqual([status, stdout], [0, '']);
  });
});
