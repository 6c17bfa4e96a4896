import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { countBy } from '../src/responses/collection-report.ts';
import { type FaultServer, type FaultServerRequest, startFaultServer } from '../src/teachers/fault-server.ts';
import { createChatTemplate } from '../src/text/chat-template.ts';
import { resolveModel } from '../src/weights/resolve-model.ts';
import { startFakeHub } from './fake-hub.ts';
import { writeToyModel } from './toy-model.ts';

/** A whole run by the command, among hostile data and servers that quote keys: what stands in files and on the terminal afterwards. */
const root = await mkdtemp(join(tmpdir(), 'retort-security-'));
after(() => rm(root, { recursive: true, force: true }));

const keys = { TEACHER_KEY: 'sk-teacher-0123456789abcdef-ZYXWVU', JUDGE_KEY: 'sk-judge-fedcba9876543210-UVWXYZ' };
const workplace = join(root, 'work', 'place');
const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

const escape = '\u001b[2J\u001b]0;owned\u0007\u009b1m';
const script = `</script><script>alert(1)</script><img src=x onerror=alert(2)>${escape}`;
/** Ids that would be paths, options, properties or commands where somebody took them for more than ids. */
const ids = [
  '../../../evil',
  '/etc/evil',
  'a/../../evil',
  '..\\..\\evil',
  '__proto__',
  'constructor',
  `x${escape}`,
  '$(touch evil)',
  '-rf evil',
];
const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

let teacher: FaultServer;
let judge: FaultServer;
const printed: string[] = [];

const answer = ({ messages }: FaultServerRequest): string =>
  `${script} You sent Bearer ${keys.TEACHER_KEY}. ${messages[0]?.content.slice(0, 12)}\n#### 4`;

const retort = async (...commandLine: readonly string[]): Promise<number | null> => {
  const child = spawn(process.execPath, [main, ...commandLine], { cwd: workplace, env: { ...process.env, ...keys } });
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => printed.push(text));
  const [code] = await once(child, 'close');
  return code;
};

const filesOf = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();

let filesBefore: string[] = [];

before(
  async () => {
    teacher = await startFaultServer({
      key: keys.TEACHER_KEY,
      echoesKey: true,
      answer,
      faults: (_, attempt) => (attempt === 0 ? 'server-error' : undefined),
    });
    judge = await startFaultServer({ key: keys.JUDGE_KEY, echoesKey: true, answer: () => `${script} Bearer ${keys.JUDGE_KEY}\nScore: 8` });
    await mkdir(workplace, { recursive: true });
    await writeToyModel(join(workplace, 'student'));
    const row = (id: string, index: number) => ({ id, question: `Question ${index} ${script}`, answer: String(index) });
    await writeFile(
      join(workplace, 'train.jsonl'),
      lines([...ids.map(row), { ...row(`twin of ${ids[0]}`, 0), question: `Question 0 ${script}` }]),
    );
    await writeFile(join(workplace, 'test.jsonl'), lines(ids.slice(0, 5).map((id, index) => row(id, index + 50))));
    const at = (server: FaultServer, apiKeyVariable: string) => ({
      kind: 'openai-compatible',
      baseUrl: server.baseUrl,
      model: `m ${script}`,
      apiKeyVariable,
    });
    const config = {
      name: 'hostile',
      task: { name: 'jsonl', files: { train: 'train.jsonl', test: 'test.jsonl' }, fields: { id: 'id' }, scorer: { kind: 'number' } },
      teacher: at(teacher, 'TEACHER_KEY'),
      student: { model: 'student', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
      training: { epochs: 1, maximumLength: 900 },
      collection: { verify: { by: 'judge', teacher: at(judge, 'JUDGE_KEY') } },
      arms: ['none', 'gold', { selected: 'none', keep: 'right' }],
      evaluation: { maximumTokens: 4, likelihood: false, primed: false, fewShots: { examples: 0 } },
      // Near-twins, all of them.
      curation: { decontamination: { action: 'off' } },
      engine: { threadCount: 1 },
    };
    await writeFile(join(workplace, 'run.yaml'), stringify(config));
    await writeFile(join(workplace, 'wrong.yaml'), stringify({ ...config, name: 'wrong', teacher: at(judge, 'TEACHER_KEY') }));
    filesBefore = await filesOf(root);
    assert.equal(await retort('run', 'run.yaml', '--debug'), 0, printed.join(''));
    assert.equal(await retort('collect', 'run.yaml', '--dry-run'), 0, printed.join(''));
    assert.equal(await retort('report', 'runs/hostile'), 0, printed.join(''));
    assert.equal(await retort('collect', 'wrong.yaml', '--debug'), 1, printed.join(''));
    assert.equal(await retort('collect', 'run.yaml', '--failures'), 0, printed.join(''));
    assert.equal(await retort('forget', 'runs/hostile', ids[0] ?? '', '--split', 'train'), 0, printed.join(''));
  },
  { timeout: 300_000 },
);
after(async () => {
  await teacher.close();
  await judge.close();
});

const runFiles = async (): Promise<string[]> => (await filesOf(root)).filter((file) => !filesBefore.includes(file));

describe('a whole run', () => {
  it('leaves no key in any file and in no printed line, though the servers quote it', async () => {
    const files = await runFiles();
    assert.ok(files.length > 25, files.join('\n'));
    const texts = [...printed, ...(await Promise.all(files.map((file) => readFile(join(root, file), 'latin1'))))];
    for (const key of Object.values(keys))
      for (const form of [key, key.slice(0, 15), key.slice(-13), Buffer.from(key).toString('base64'), encodeURIComponent(key)])
        for (const text of texts) assert.ok(!text.includes(form), text.slice(Math.max(0, text.indexOf(form) - 200)).slice(0, 400));
    // It went as meant: quoted keys were there to be taken out, and each key came to its own server alone.
    assert.ok(texts.some((text) => text.includes('You sent Bearer [redacted]')));
    assert.ok(printed.some((text) => /answered 401/.test(text)));
    assert.ok(teacher.billedCount() > ids.length && judge.billedCount() >= ids.length);
  });

  it('gives its files to their owner alone, but for weights and what belongs to them', {
    skip: process.platform === 'win32' && 'Windows has no such permissions',
  }, async () => {
    const folder = join(workplace, 'runs', 'hostile');
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    for (const file of await filesOf(folder)) {
      const { mode } = await stat(join(folder, file));
      if (!/\.safetensors$|adapter_config\.json$/.test(file)) assert.equal(mode & 0o777, 0o600, file);
    }
  });

  it('takes ids for nothing but ids: no file outside its folder, none named by data', async () => {
    for (const file of await runFiles()) {
      assert.ok(file.startsWith(join('work', 'place', 'runs')), file);
      assert.doesNotMatch(file, /evil|proto|constructor/);
    }
    assert.ok(!existsSync('/etc/evil'));
    const answers = (await readFile(join(workplace, 'runs', 'hostile', 'responses', 'none', 'responses.jsonl'), 'utf8')).trim().split('\n');
    const found = answers.map((line) => JSON.parse(line).exampleId);
    // All but the one that was forgotten.
    assert.deepEqual(found.sort(), [...ids.slice(1), `twin of ${ids[0]}`].sort());
  });

  it('shows hostile texts as texts: no markup on the page, no control character on the terminal', async () => {
    const page = await readFile(join(workplace, 'runs', 'hostile', 'report', 'index.html'), 'utf8');
    assert.ok(page.includes('alert'), 'the texts are on the page');
    assert.doesNotMatch(page, /<script>alert|<img src=x|\u001b/);
    assert.doesNotMatch(await readFile(join(workplace, 'runs', 'hostile', 'report', 'report.md'), 'utf8'), /<script>|<img|\u001b/);
    assert.ok(printed.join('').includes('\\x1b[2J'), 'the texts are on the terminal');
    for (const text of printed) assert.doesNotMatch(text, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
  });

  it('reads what others wrote with its own hash beside it', async () => {
    assert.equal(await retort('report', 'runs/hostile', '--check'), 0, printed.join(''));
  });
});

describe('a repository on the hub', () => {
  it('whose index names a file outside of its folder is refused, and nothing is written there', async () => {
    const outside = ['../../evil.safetensors', '../evil.safetensors'];
    for (const name of outside) {
      const hub = await startFakeHub('ada/evil', {
        'config.json': '{}',
        'model.safetensors.index.json': JSON.stringify({ weight_map: { a: name } }),
        [name]: Buffer.alloc(2000, 1),
      });
      const cacheFolder = await mkdtemp(join(root, 'cache-'));
      try {
        const options = { cacheFolder, hubUrl: hub.url, environment: { HF_HOME: cacheFolder }, sleep: async () => undefined };
        await assert.rejects(resolveModel('ada/evil', options), (thrown) => thrown instanceof UserError && thrown.message.includes(name));
        assert.deepEqual(
          (await filesOf(root)).filter((file) => /evil\.safetensors/.test(file)),
          [],
        );
      } finally {
        await hub.close();
      }
    }
  });
});

describe('a chat template', () => {
  it('reaches nothing outside of its language', () => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const attempts = [
      '{{ messages.constructor.constructor("return process")().pid }}',
      '{{ messages[0].__proto__.constructor }}',
      '{{ [].filter.constructor("return 1")() }}',
      '{{ raise_exception.constructor("return globalThis")() }}',
      '{% include "/etc/passwd" %}',
    ];
    for (const source of attempts) {
      let text = '';
      try {
        text = createChatTemplate(source, { name: 'test' }).render(messages, { addGenerationPrompt: false });
      } catch (thrown) {
        assert.ok(thrown instanceof Error);
      }
      assert.doesNotMatch(text, /function|native code|root:|\d/, source);
    }
  });
});

describe('a run folder of somebody else', () => {
  it('runs none of its code when it is looked at', async () => {
    const folder = join(workplace, 'runs', 'hostile');
    const mark = join(root, 'code-ran');
    const module = join(workplace, 'code.mjs');
    await writeFile(
      module,
      `import { writeFileSync } from 'node:fs'; writeFileSync(${JSON.stringify(mark)}, ''); export default (text) => text;\n`,
    );
    const file = join(folder, 'config.resolved.json');
    const config = JSON.parse(await readFile(file, 'utf8'));
    config.collection = { ...config.collection, redact: module, verify: { by: 'function', module } };
    await writeFile(file, JSON.stringify(config));
    for (const command of [
      ['report', folder],
      ['report', folder, '--page'],
      ['report', folder, folder],
      ['forget', folder, ids[1] ?? '', '--split', 'train'],
    ])
      assert.equal(await retort(...command), 0, printed.join(''));
    assert.ok(!existsSync(mark));
  });
});

it('names that objects have already are names', () => {
  const counts = countBy(['__proto__', 'constructor', '__proto__']);
  assert.deepEqual(Object.entries(counts), [
    ['__proto__', 2],
    ['constructor', 1],
  ]);
  assert.equal(JSON.stringify(counts), '{"__proto__":2,"constructor":1}');
});

describe('docs/security.md', () => {
  const text = readFileSync(join(import.meta.dirname, '..', 'docs', 'security.md'), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('| ') && !/^\| (?:---|threat)/.test(line));

  it('names for every threat a test that there is', () => {
    assert.ok(rows.length >= 25, `${rows.length} rows`);
    for (const row of rows) {
      const named = [...row.matchAll(/`(test\/[\w-]+\.test\.ts)`: “([^”]+)”/g)];
      assert.ok(named.length > 0, `no test in: ${row}`);
      for (const [, file = '', title = ''] of named) {
        const path = join(import.meta.dirname, '..', file);
        assert.ok(existsSync(path), `${file} of: ${row}`);
        assert.ok(readFileSync(path, 'utf8').includes(title), `${file} has no “${title}”`);
      }
    }
  });
});
