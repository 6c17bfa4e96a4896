// Sets the clone up: installs what package-lock.json names when node_modules differs from it, and does nothing when it does not.
// Every npm script calls it first. Plain JavaScript, because it is the one file here that runs on the system's own Node (20 or newer):
// afterwards `node` in an npm script is the Node 24 that scripts/node/package.json brings as a development dependency.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = 20; // runs this script and npm
const SCRIPTS_NODE = 24; // runs everything else: .ts without a build

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The packages of a lock file by path, or undefined where there is no such file or it is torn. */
const readPackages = (path) => {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
};

/** Whether npm's own rule lets a package onto this platform: `os` and `cpu` are lists, or one name; `!name` excludes. */
const suits = (allowed, here) => {
  const names = [allowed ?? []].flat();
  const wanted = names.filter((name) => !name.startsWith('!'));
  return !names.includes(`!${here}`) && (wanted.length === 0 || wanted.includes(here));
};

/** What the lock wants on this platform and node_modules does not have. npm keeps its own account of what it installed, which is read. */
const missingPackages = () => {
  const wanted = readPackages(join(root, 'package-lock.json'));
  if (wanted === undefined) fail('package-lock.json is missing or broken: check the clone with `git status`');
  const installed = readPackages(join(root, 'node_modules', '.package-lock.json'));
  if (installed === undefined) return ['node_modules'];
  const libc = libcName();
  const missing = [];
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.includes('node_modules/')) continue;
    const here = suits(entry.os, process.platform) && suits(entry.cpu, process.arch) && suits(entry.libc, libc);
    if (entry.optional && !here) continue;
    if (installed[path]?.version !== entry.version || !existsSync(join(root, path))) missing.push(path);
  }
  return missing;
};

/** npm's name for this system's C library: glibc writes its version into the process report. */
const libcName = () => {
  if (process.platform !== 'linux') return undefined;
  return process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
};

const install = () => {
  // npm tells its scripts where it is; run by itself, this script asks the shell for it
  const npm = process.env.npm_execpath;
  const arguments_ = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const options = {
    cwd: root,
    stdio: 'inherit',
    // older npm would run onnxruntime-node's install script, which fetches 300 MB of CUDA files; newer ones are told in package.json
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' },
  };
  const result = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, ...arguments_], options)
    : spawnSync('npm', arguments_, { ...options, shell: process.platform === 'win32' });
  if (result.error) fail(`npm could not be started: ${result.error.message}`);
  if (result.status !== 0)
    fail(`\`npm ci\` ended with ${result.status ?? result.signal}: see its message above, then run the same command again`);
};

const fail = (message) => {
  console.error(`set-up: ${message}`);
  process.exit(1);
};

const majorVersion = Number(process.versions.node.split('.')[0]);
if (majorVersion < OLDEST_NODE) fail(`Node ${OLDEST_NODE} or newer is needed to set up, this is ${process.version}`);

const missing = missingPackages();
if (missing.length > 0) {
  console.log(
    `set-up: installing from package-lock.json (${missing[0]}${missing.length > 1 ? ` and ${missing.length - 1} more` : ''} to come) …`,
  );
  const started = Date.now();
  install();
  const left = missingPackages();
  if (left.length > 0) fail(`after \`npm ci\` these packages are still not there: ${left.join(', ')}`);
  console.log(`set-up: done in ${Math.round((Date.now() - started) / 1000)} s`);
}
const ownNode = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');
if (majorVersion < SCRIPTS_NODE && !existsSync(ownNode)) {
  fail(
    `no package of Node ${SCRIPTS_NODE} exists for ${process.platform}-${process.arch}, and the system's is ${process.version}: install Node ${SCRIPTS_NODE}`,
  );
}
