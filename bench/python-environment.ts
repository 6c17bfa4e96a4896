import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const environmentFolder = join(root, '.cache', 'bench-python');
const ownPython = join(environmentFolder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');

/** A Python with the rivals' packages, or why there is none. */
export type PythonEnvironment = { readonly python: string } | { readonly missing: string };

const imports = 'import torch, transformers, peft, gguf';

const checked = (python: string, source: string): PythonEnvironment => {
  const { status, error } = spawnSync(python, ['-c', imports], { stdio: 'ignore' });
  return status === 0
    ? { python }
    : { missing: `${python} (${source}) cannot \`${imports}\`${error === undefined ? '' : `: ${error.message}`}` };
};

/** The Python given by option or RETORT_PYTHON, else the benchmarks' own environment, which `create` makes from the package index. */
export const pythonEnvironment = (given: string | undefined, create: boolean): PythonEnvironment => {
  if (given !== undefined) return checked(given, '--python or RETORT_PYTHON');
  if (!existsSync(ownPython)) {
    if (!create) return { missing: 'no Python was given: pass --python PATH, or --create-environment to make one in .cache/bench-python' };
    const requirements = join(import.meta.dirname, 'rivals', 'requirements.txt');
    const commands = [
      ['python3', '-m', 'venv', environmentFolder],
      [ownPython, '-m', 'pip', 'install', '-r', requirements],
    ] as const;
    for (const [command, ...rest] of commands) {
      const { status } = spawnSync(command, rest, { stdio: ['ignore', 2, 2] });
      if (status !== 0) return { missing: `\`${[command, ...rest].join(' ')}\` failed` };
    }
  }
  return checked(ownPython, '.cache/bench-python');
};
