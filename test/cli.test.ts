import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';

/** The command as a process: what it prints where, and with what code it ends. */
const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
const folder = mkdtempSync(join(tmpdir(), 'retort-cli-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const retort = (commandLine: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...commandLine], {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  return { status, stdout, stderr };
};

const write = (name: string, text: string): string => {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), text);
  return name;
};

const questions = (from: number) =>
  [1, 2, 3]
    .map((number) => JSON.stringify({ question: `What is ${from + number} + ${number}?`, answer: `A sum.\n#### ${from + 2 * number}` }))
    .join('\n');
write('data/train.jsonl', `${questions(10)}\n`);
write('data/test.jsonl', `${questions(0)}\n`);
const good = 'name: trial\ntask: { name: gsm8k, folder: data }\nteacher: { kind: fake }\nstudent: { model: student }\narms: [none, gold]\n';

describe('the user’s mistakes end with 1, and a message without a stack trace', () => {
  const mistakes: readonly (readonly [what: string, commandLine: readonly string[], message: RegExp])[] = [
    ['an unknown command', ['rnu'], /unknown command 'rnu'\n\(Did you mean run\?\)/],
    ['an unknown option', ['run', 'x.yaml', '--offlin'], /unknown option '--offlin'\n\(Did you mean --offline\?\)/],
    ['no config', ['run'], /missing required argument 'config'/],
    ['a config that is not there', ['run', 'nowhere.yaml'], /^There is no config at nowhere\.yaml\./],
    ['a folder for a config', ['run', 'data'], /^data is a folder\. Give the config's file/],
    [
      'a wrong key',
      ['run', write('bad.yaml', good.replace('student:', 'studnet:'))],
      /bad\.yaml:4: config\.studnet: unknown key `studnet`\. Did you mean `student`\?/,
    ],
    [
      'a wrong --set',
      ['run', write('good.yaml', good), '--set', 'training.epochs=many'],
      /--set training\.epochs: config\.training\.epochs: expected a number, came "many"/,
    ],
    [
      'a seed that is none',
      ['run', 'good.yaml', '--seed', 'one'],
      /option '--seed .*' argument 'one' is invalid\. Expected a whole number/,
    ],
    ['data that is not there', ['run', 'good.yaml', '--set', 'task.folder=elsewhere'], /No data for task "gsm8k" at .*elsewhere/],
    ['a model that is not there', ['run', 'good.yaml'], /There is no model at .*student/],
    ['a folder that is no model', ['generate', 'data', 'prompts.jsonl', '--output', 'out.jsonl'], /data.* is no model|data.* has no/],
    ['a run that is not there', ['report', 'runs/nothing'], /^No run at .*nothing\. /],
    [
      'a merge without an adapter, in short or in full',
      ['export', 'data', '--output', 'merged'],
      /required option '--adapter <folder>' not specified/,
    ],
    ['answers of no run', ['export', 'responses', 'data', '--format', 'alpaca', '--output', 'out'], /^No run at .*data\. /],
    [
      'answers in no form',
      ['export', 'responses', 'data', '--format', 'cvs', '--output', 'out'],
      /Allowed choices are chat-jsonl, sharegpt, alpaca/,
    ],
    [
      'a data set on the hub without network',
      ['run', 'good.yaml', '--offline', '--set', 'task.folder=hub:ada/gsm8k'],
      /^Offline, and hub:ada\/gsm8k is not in the cache/,
    ],
    ['nothing to evaluate', ['evaluate', '--task', 'gsm8k'], /Give a model to measure, or --answers FILE to score/],
    ['answers for no task', ['evaluate', '--answers', 'a.jsonl'], /Name the task: --task gsm8k or word-problems/],
    ['an unknown task', ['evaluate', '--answers', 'a.jsonl', '--task', 'gsm'], /Allowed choices are gsm8k, word-problems/],
    ['no tokens', ['chat', 'data', '--maximum-tokens', '0'], /Expected 1 or more/],
    ['a model of the hub without network', ['chat', 'owner/name', '--offline'], /owner\/name/],
    [
      'a teacher that answers elsewhere without network',
      [
        'collect',
        write(
          'remote.yaml',
          good.replace('{ kind: fake }', '{ kind: openai-compatible, baseUrl: "https://teacher.example/v1", model: m }'),
        ),
        '--offline',
        '--output',
        'remote',
      ],
      /offline/i,
    ],
  ];
  for (const [what, commandLine, message] of mistakes) {
    it(what, () => {
      const { status, stdout, stderr } = retort(commandLine);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n\s+at /, 'a stack trace');
      assert.equal(stdout, '');
      assert.equal(status, 1, stderr);
    });
  }

  it('and with a trace where one is asked for', () => {
    const { status, stderr } = retort(['run', 'nowhere.yaml', '--debug']);
    assert.match(stderr, /^There is no config at nowhere\.yaml[^]*\n\s+at /);
    assert.equal(status, 1);
  });
});

describe('commands', () => {
  it('say their version and what there is', () => {
    assert.match(retort(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
    const { stdout, status } = retort(['--help']);
    for (const name of ['run', 'collect', 'train', 'evaluate', 'generate', 'report', 'chat', 'export', 'doctor'])
      assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
    assert.equal(status, 0);
  });

  it('doctor shows which keys are set, and never a key', () => {
    const { stdout, status } = retort(['doctor', '--json'], { TRIAL_API_KEY: 'very-secret' });
    assert.equal(status, 0);
    assert.doesNotMatch(stdout, /very-secret/);
    const found: unknown = JSON.parse(stdout);
    assert.ok(typeof found === 'object' && found !== null);
    assert.deepEqual(Object.keys(found), [
      'retort',
      'Node',
      'ONNX Runtime',
      'providers',
      'processor',
      'instructions',
      '8-bit products',
      'memory',
      'cache',
      'keys',
    ]);
    assert.match(JSON.stringify(found), /TRIAL_API_KEY/);
  });

  it('evaluate scores answers from elsewhere', () => {
    const answers = ['So it is #### 2', 'I think 4', '#### 7'].map((text, index) => JSON.stringify({ id: `gsm8k-test-${index}`, text }));
    write('answers.jsonl', `${answers.join('\n')}\n`);
    const { stdout, stderr, status } = retort(['evaluate', '--answers', 'answers.jsonl', '--task', 'gsm8k', '--data', 'data', '--json']);
    assert.equal(status, 0, stderr);
    const summary: unknown = JSON.parse(stdout);
    assert.ok(typeof summary === 'object' && summary !== null && 'strict' in summary && 'flexible' in summary && 'answerCount' in summary);
    // by hand: the first is right by both rules, the second by its last number alone, the third is wrong
    assert.deepEqual([summary.answerCount, countOf(summary.strict), countOf(summary.flexible)], [3, 1, 2]);
    assert.match(
      retort(['evaluate', '--answers', 'answers.jsonl', '--task', 'gsm8k', '--data', 'data']).stdout,
      /^right, strict rule +33\.3 % .* 1 of 3\n/,
    );
  });

  it('collect keeps answers, and does not ask again', () => {
    const first = retort(['collect', 'good.yaml', '--output', 'collected', '--json']);
    assert.equal(first.status, 0, first.stderr);
    const second = retort(['collect', 'good.yaml', '--output', 'collected', '--json']);
    assert.equal(second.stdout, first.stdout);
    assert.match(first.stdout, /"source": "none",\n\s+"keptCount": 3/);
    const other = retort(['collect', 'good.yaml', '--output', 'collected', '--set', 'sampling.seed=1']);
    assert.match(other.stderr, /holds a run of another config:\n {2}sampling\.seed: 0 in the run, 1 now/);
    assert.equal(other.status, 1);
  });
});

const countOf = (share: unknown): unknown => (typeof share === 'object' && share !== null && 'count' in share ? share.count : undefined);

describe('Ctrl-C', { skip: process.platform === 'win32' && 'Windows has no such signals' }, () => {
  /** A process that works until it is interrupted, and then needs a while to end. */
  const worker = write(
    'worker.ts',
    `import { listenForInterrupts } from ${JSON.stringify(join(import.meta.dirname, '..', 'src', 'cli', 'interrupt.ts'))};
const { signal } = listenForInterrupts(() => console.log('first'));
const alive = setInterval(() => undefined, 1000);
signal.addEventListener('abort', () => setTimeout(() => { console.log('ended'); clearInterval(alive); }, Number(process.argv[2])));
console.log('ready');`,
  );
  const interrupted = (endingMs: number, count: number) =>
    new Promise<{ code: number | null; signal: string | null; output: string }>((resolve, reject) => {
      const child = spawn(process.execPath, [join(folder, worker), String(endingMs)], { stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      let sent = 0;
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        // one signal for 'ready', and the next when the first was heard
        if (sent < count && output.split('\n').length - 1 > sent) {
          sent += 1;
          child.kill('SIGINT');
        }
      });
      child.on('error', reject);
      child.on('exit', (code, signal) => resolve({ code, signal, output }));
    });

  it('once lets the work end cleanly', async () => {
    assert.deepEqual(await interrupted(50, 1), { code: 0, signal: null, output: 'ready\nfirst\nended\n' });
  });

  it('twice ends at once, by the signal and not by an abort', async () => {
    assert.deepEqual(await interrupted(60_000, 2), { code: null, signal: 'SIGINT', output: 'ready\nfirst\n' });
  });
});
