import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = join(import.meta.dirname, '..');

export interface SourceFile {
  /** From the root, with forward slashes: src/ops/matmul.ts. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

export interface Import {
  readonly specifier: string;
  /** The file imported, from the root; undefined for packages and for what Node brings. */
  readonly target: string | undefined;
  /** `import type` and `export type` are gone when the program runs. */
  readonly isType: boolean;
}

// `import … from 'x'`, `export … from 'x'`, `import 'x'`, `import('x')`, and the URL of a worker file
const importPattern =
  /^\s*(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|new URL\(\s*'(\.[^']+\.ts)'/gm;

/** The imports of a file. */
export const parseImports = (path: string, text: string): Import[] =>
  [...text.matchAll(importPattern)].map((match) => {
    const specifier = match[2] ?? match[3] ?? match[4] ?? '';
    const target = specifier.startsWith('.') ? relative(root, resolve(root, dirname(path), specifier)).replaceAll('\\', '/') : undefined;
    return { specifier, target, isType: match[1] !== undefined };
  });

/** Every .ts file below a folder of the clone. */
export const readSources = (folder: string): SourceFile[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const path = `${folder}/${name.replaceAll('\\', '/')}`;
      const text = readFileSync(join(root, path), 'utf8');
      return { path, text, imports: parseImports(path, text) };
    });

/** A chain of imports from one file to a package, or undefined. Types do not count: they load nothing. */
export const chainTo = (
  files: ReadonlyMap<string, SourceFile>,
  path: string,
  specifier: string,
  seen = new Set<string>(),
): string[] | undefined => {
  if (seen.has(path)) return undefined;
  seen.add(path);
  for (const each of files.get(path)?.imports ?? []) {
    if (each.isType) continue;
    if (each.specifier === specifier) return [path, specifier];
    const rest = each.target === undefined ? undefined : chainTo(files, each.target, specifier, seen);
    if (rest !== undefined) return [path, ...rest];
  }
  return undefined;
};
