import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { commandTable } from '../src/cli/command-table.ts';
import { parseRunConfig } from '../src/config/parse-config.ts';

const root = join(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const block = (language: string, containing: string): string => {
  const found = [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, 'g'))].map((match) => match[1] ?? '');
  const text = found.find((candidate) => candidate.includes(containing));
  assert.ok(text !== undefined, `README.md has no ${language} block with "${containing}"`);
  return text;
};

describe('README.md', () => {
  it('names every command, and none that there is not', () => {
    const named = new Set([...readme.matchAll(/^\| `retort (\w+)/gm)].map((match) => match[1]));
    assert.deepEqual([...named].sort(), Object.keys(commandTable).sort());
  });

  it('shows a config that is one', () => {
    const text = block('yaml', 'name: my-run');
    const { config } = parseRunConfig({ text, file: 'README.md' }, { folder: root, environment: {}, isThere: () => true });
    assert.deepEqual(
      config.arms.map(({ name }) => name),
      ['none', 'teacher', 'mine', 'gold', 'shuffled'],
    );
    const remote = `${text.replace(/teacher: \{.*\}\n/, '')}${block('yaml', 'kind: openai-compatible')}`;
    assert.equal(
      parseRunConfig({ text: remote, file: 'README.md' }, { folder: root, environment: {}, isThere: () => true }).config.teacher?.kind,
      'openai-compatible',
    );
  });

  it('links to files that exist', () => {
    for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)]+)\)/g))
      assert.ok(existsSync(join(root, path ?? '')), `${path} is not there`);
  });

  it('has an example that works', () => {
    const folder = mkdtempSync(join(tmpdir(), 'retort-readme-'));
    try {
      const library = pathToFileURL(join(root, 'src', 'index.ts')).href;
      const example = block('ts', "from 'retort-kd'")
        .replaceAll("'retort-kd'", `'${library}'`)
        .replace("'runs/readme'", JSON.stringify(join(folder, 'run')));
      writeFileSync(join(folder, 'example.mts'), example);
      const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, 'example.mts')], { cwd: root, encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      assert.ok(stdout.trim().length > 20, `no headline: ${stdout}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
