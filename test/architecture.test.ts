import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { parseImports, readSources } from '../scripts/source-imports.ts';
import { slowTests } from '../scripts/test-tiers.ts';

const root = join(import.meta.dirname, '..');

/** From the bottom up: a file imports from its own folder and from those before it. `src/index.ts` stands above all but the command line. */
const folderOrder = [
  ...['base', 'graph', 'ops', 'autodiff', 'onnx', 'runtime', 'nn', 'losses', 'optim', 'weights', 'data', 'models', 'text', 'engines'],
  ...['tasks', 'priming', 'teachers', 'responses', 'config', 'run-folder', 'evaluation', 'report', 'methods', 'inspection', 'cli'],
];

const sources = readSources('src');
const tests = readSources('test');
const byPath = new Map(sources.map((file) => [file.path, file]));

const folderOf = (path: string): string | undefined => (path.split('/').length > 2 ? path.split('/')[1] : undefined);

/** A circle of imports through a file, types included: two files that need each other's types are one unit in two places. */
const cycleThrough = (start: string): string[] | undefined => {
  const walk = (path: string, chain: string[], seen: Set<string>): string[] | undefined => {
    for (const { target } of byPath.get(path)?.imports ?? []) {
      if (target === start) return [...chain, target];
      if (target === undefined || seen.has(target)) continue;
      seen.add(target);
      const found = walk(target, [...chain, target], seen);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return walk(start, [start], new Set());
};

describe('imports', () => {
  it('are found at all', () => {
    // the checks below would pass on a pattern that matches nothing
    const text = `import { a } from './a.ts';\nexport type { B } from '../b.ts';\nimport type {\n  C,\n} from 'c';\nawait import('./d.ts');\nnew URL('./e.ts', import.meta.url);`;
    assert.deepEqual(
      parseImports('src/x/y.ts', text).map(({ target, specifier, isType }) => `${target ?? specifier}${isType ? ' (type)' : ''}`),
      ['src/x/a.ts', 'src/b.ts (type)', 'c (type)', 'src/x/d.ts', 'src/x/e.ts'],
    );
    assert.ok(
      sources.some((file) => file.path === 'src/graph/graph.ts' && file.imports.some(({ target }) => target === 'src/graph/value.ts')),
    );
  });

  it('lead to files that exist', () => {
    for (const file of sources) {
      for (const { target } of file.imports) {
        if (target !== undefined) assert.ok(existsSync(join(root, target)), `${file.path} imports ${target}, which does not exist`);
      }
    }
  });

  it('point one way: a folder knows those below it', () => {
    for (const file of sources) {
      const folder = folderOf(file.path);
      if (folder === undefined) continue;
      const level = folderOrder.indexOf(folder);
      assert.ok(level >= 0, `${file.path}: src/${folder} has no place in the order of folders; give it one in test/architecture.test.ts`);
      for (const { target } of file.imports) {
        if (target === undefined || !target.startsWith('src/')) continue;
        const other = folderOf(target);
        if (other === undefined) {
          assert.ok(folder === 'cli', `${file.path} imports ${target}: only src/cli stands above src/index.ts`);
        } else {
          assert.ok(folderOrder.indexOf(other) <= level, `${file.path} imports ${target}, but src/${other} stands above src/${folder}`);
        }
      }
    }
  });

  it('stay inside src', () => {
    for (const file of sources) {
      for (const { target } of file.imports) {
        if (target !== undefined) assert.ok(target.startsWith('src/'), `${file.path} imports ${target}, which is not in the package`);
      }
    }
  });

  it('have no circles', () => {
    for (const { path } of sources) {
      const cycle = cycleThrough(path);
      assert.equal(cycle, undefined, cycle?.join(' → '));
    }
  });

  it('reach onnxruntime-node from src/runtime alone', () => {
    for (const file of sources) {
      const own = file.imports.find(({ specifier }) => specifier === 'onnxruntime-node' || specifier === 'onnxruntime-common');
      if (own !== undefined) assert.equal(folderOf(file.path), 'runtime', `${file.path} imports ${own.specifier}; only src/runtime may`);
    }
  });
});

describe('files', () => {
  it('have names that say something', () => {
    for (const { path } of [...sources, ...tests]) {
      assert.doesNotMatch(path, /(^|\/)(utils?|helpers?|common|types?|misc|shared)\.ts$/, `${path}: name the file for what it holds`);
      assert.match(path, /^[a-z0-9/.-]+$/, `${path}: file names are kebab-case`);
    }
  });

  it('over 400 lines give their reason', () => {
    for (const { path, text } of sources) {
      const lineCount = text.split('\n').length;
      assert.ok(
        lineCount <= 400 || /^\/\/ Over 400 lines: \S/m.test(text),
        `${path} has ${lineCount} lines: split it, or say why not in a comment that begins "// Over 400 lines: "`,
      );
    }
  });
});

it('the table of slow tests names files that exist', () => {
  const names = new Set(tests.map(({ path }) => path));
  assert.deepEqual(
    Object.keys(slowTests).filter((name) => !names.has(`test/${name}`)),
    [],
  );
});

it('the lockfile holds every platform’s packages, without which `npm ci` refuses it', () => {
  // npm writes only those that its registry has; the others are added by hand, without a hash
  const lock = lockSchema.parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))).packages;
  for (const [path, { optionalDependencies = {}, resolved }] of Object.entries(lock)) {
    for (const name of Object.keys(optionalDependencies)) {
      assert.ok(`node_modules/${name}` in lock || `${path}/node_modules/${name}` in lock, `${path} needs an entry for ${name}`);
    }
    assert.ok(resolved === undefined || !resolved.startsWith('http'), `${path} names a registry`);
  }
});

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({ optionalDependencies: z.record(z.string(), z.string()).optional(), resolved: z.string().optional() }),
  ),
});
