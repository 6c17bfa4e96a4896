import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');

/** What a benchmark's other side is made of. */
export interface Rivals {
  /** What their Python must be able to do. */
  readonly imports: string;
  /** Packages of theirs, a file in rivals/. */
  readonly requirements: string;
  /** Of the environment that is made of these. */
  readonly folder: string;
}

/** A Python with the rivals' packages, or why there is none. */
export type PythonEnvironment = { readonly python: string } | { readonly missing: string };

const checked = (python: string, source: string, imports: string): PythonEnvironment => {
  const { status, error } = spawnSync(python, ['-c', imports], { stdio: 'ignore' });
  return status === 0
    ? { python }
    : { missing: `${python} (${source}) cannot \`${imports}\`${error === undefined ? '' : `: ${error.message}`}` };
};

/** The Python given by option or RETORT_PYTHON, else the benchmark's own environment, which `create` makes from the package index. */
export const pythonEnvironment = (
  given: string | undefined,
  create: boolean,
  { imports, requirements, folder }: Rivals,
): PythonEnvironment => {
  const environmentFolder = join(root, '.cache', folder);
  const ownPython = join(environmentFolder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  if (given !== undefined) return checked(given, '--python or RETORT_PYTHON', imports);
  if (!existsSync(ownPython)) {
    if (!create) return { missing: 'no Python was given: pass --python PATH, or --create-environment to make one in .cache' };
    const commands = [
      ['python3', '-m', 'venv', environmentFolder],
      [ownPython, '-m', 'pip', 'install', '-r', join(import.meta.dirname, 'rivals', requirements)],
    ] as const;
    for (const [command, ...rest] of commands) {
      const { status } = spawnSync(command, rest, { stdio: ['ignore', 2, 2] });
      if (status !== 0) return { missing: `\`${[command, ...rest].join(' ')}\` failed` };
    }
  }
  return checked(ownPython, `.cache/${folder}`, imports);
};
