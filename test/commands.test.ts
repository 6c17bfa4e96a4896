import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import { createEngine } from '../src/engines/create-engine.ts';
import { loadModelText } from '../src/text/model-text.ts';
import { promptTokens } from '../src/text/training-row.ts';
import { writeToyModel } from './toy-model.ts';

/** The commands that need a model, as processes, on a toy that speaks bytes. */
const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
const folder = mkdtempSync(join(tmpdir(), 'retort-commands-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const retort = (commandLine: readonly string[], input = '') =>
  spawnSync(process.execPath, [main, ...commandLine], { cwd: folder, encoding: 'utf8', input });
const succeed = (commandLine: readonly string[], input?: string): string => {
  const { status, stdout, stderr } = retort(commandLine, input);
  assert.equal(status, 0, stderr);
  return stdout;
};
const write = (name: string, lines: readonly object[]): void =>
  writeFileSync(join(folder, name), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
const completionSchema = z.strictObject({
  id: z.string(),
  completion: z.string(),
  tokens: z.array(z.number()),
  finishReason: z.enum(['stop', 'length', 'given']),
  logProbabilities: z.array(z.number()).optional(),
  requestHash: z.string(),
});
const completions = (name: string) =>
  new Map(
    readFileSync(join(folder, name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => completionSchema.parse(JSON.parse(line)))
      .map((completion) => [completion.id, completion]),
  );

before(async () => {
  await writeToyModel(join(folder, 'toy'));
  const chats = ['red', 'green', 'blue', 'black', 'white', 'brown'].map((colour) => ({
    messages: [
      { role: 'user', content: `Say ${colour}` },
      { role: 'assistant', content: colour },
    ],
  }));
  write('chats.jsonl', chats);
  write('train.yaml', []);
  writeFileSync(
    join(folder, 'train.yaml'),
    'data: { train: chats.jsonl }\nstudent: { model: toy, parameters: { kind: lora, rank: 2 } }\n' +
      'training: { epochs: 2, rowsPerStep: 2, learningRate: 0.05 }\nengine: { threadCount: 1 }\noutput: adapter\n',
  );
});

describe('train', () => {
  it('writes an adapter, says what it learnt, and does nothing when asked again', () => {
    assert.match(succeed(['train', 'train.yaml']), /^Trained on 6 rows: 6 steps, [\d,]+ tokens learnt\.\nWritten to /);
    assert.ok(existsSync(join(folder, 'adapter', 'adapter_model.safetensors')));
    assert.match(succeed(['train', 'train.yaml']), /was trained before, in exactly this way: nothing to do/);
    const { status, stderr } = retort(['train', 'train.yaml', '--seed', '5']);
    assert.equal(status, 1);
    assert.match(stderr, /holds a student that was trained otherwise/);
  });

  it('says with --dry-run what would run and what it would take, and writes nothing', () => {
    const text = succeed(['train', 'train.yaml', '--dry-run', '--output', 'planned']);
    assert.match(text, /^\d+ rows, \d+ steps, [\d,]+ tokens, [\d,]+ of them to learn\.\nRuns, dealt out among/);
    assert.match(text, /\n +\d+ of \d+ × 64 tokens\n/);
    assert.match(text, /\nMemory: about [\d.]+ GB at most, of [\d.]+ GB:\n/);
    assert.ok(!existsSync(join(folder, 'planned')));
    const { stepCount, memory } = JSON.parse(succeed(['train', 'train.yaml', '--dry-run', '--json', '--output', 'planned']));
    assert.ok(stepCount > 0 && memory.totalBytes > 0);
    const both = retort(['train', 'train.yaml', '--dry-run', '--profile']);
    assert.equal(both.status, 1);
    assert.match(both.stderr, /give one of them/);
  });

  it('tells with --profile where the time goes, by op and by layer, and writes nothing', () => {
    // Also where a row is left out, which a training would write down.
    write('measured.jsonl', [
      {
        messages: [
          { role: 'user', content: 'Say red' },
          { role: 'assistant', content: 'red' },
        ],
      },
    ]);
    const text = succeed(['train', 'train.yaml', '--set', 'data.development=measured.jsonl', '--profile', '--output', 'profiled']);
    assert.match(text, /^One micro-batch, forward and back, on one thread: 4 × 64 tokens/);
    assert.match(text, /\nop +ms +share +runs +GFLOP\/s\n(?:.*\n)*Gemm +[\d.]+ +[\d.]+ % +\d+ +\d+\n/);
    assert.match(text, /\nlayer 1, back +[\d.]+ +[\d.]+ %/);
    assert.ok(!existsSync(join(folder, 'profiled')));
  });

  it('ends cleanly at Ctrl-C, and goes on to the same bytes', {
    skip: process.platform === 'win32' && 'Windows has no such signals',
  }, async () => {
    const settings = ['--set', 'training.epochs=40', '--set', 'training.stepsPerCheckpoint=7'];
    succeed(['train', 'train.yaml', '--output', 'whole', ...settings]);
    const stopped = await new Promise<{ code: number | null; message: string }>((resolve, reject) => {
      const child = spawn(process.execPath, [main, 'train', 'train.yaml', '--output', 'stopped', ...settings], {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let message = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        message += text;
      });
      const metrics = join(folder, 'stopped', 'metrics.jsonl');
      const wait = setInterval(() => {
        if (!existsSync(metrics) || readFileSync(metrics, 'utf8').split('\n').length < 10) return;
        clearInterval(wait);
        child.kill('SIGINT');
      }, 5);
      child.on('error', reject);
      child.on('exit', (code) => {
        clearInterval(wait);
        resolve({ code, message });
      });
    });
    assert.equal(stopped.code, 130, stopped.message);
    assert.match(stopped.message, /Stopped; what was done is kept\. To go on: retort train train\.yaml --output stopped /);
    assert.ok(!existsSync(join(folder, 'stopped', 'adapter_model.safetensors')), 'it was stopped before its end');
    succeed(['train', 'train.yaml', '--output', 'stopped', ...settings]);
    const bytes = (name: string) => readFileSync(join(folder, name, 'adapter_model.safetensors'));
    assert.ok(bytes('stopped').equals(bytes('whole')), 'the continued training gave other weights');
  });
});

describe('generate', () => {
  it('completes conversations and raw texts, each by its own stream: order and company change nothing', () => {
    const prompts = [
      { id: 'chat', messages: [{ role: 'user', content: 'Hello' }] },
      { id: 'raw', prompt: 'abc' },
    ];
    write('one.jsonl', prompts);
    write('two.jsonl', [{ id: 'more', prompt: 'a much longer prompt than the others' }, ...prompts.toReversed()]);
    const options = ['--maximum-tokens', '6', '--temperature', '1', '--seed', '3'];
    succeed(['generate', 'toy', 'one.jsonl', '--output', 'one.out', ...options]);
    succeed(['generate', 'toy', 'two.jsonl', '--output', 'two.out', ...options]);
    assert.deepEqual(completions('one.out').get('chat')?.tokens, completions('two.out').get('chat')?.tokens);
    assert.deepEqual(completions('one.out').get('raw')?.tokens, completions('two.out').get('raw')?.tokens);
    assert.equal(completions('two.out').size, 3);
    assert.equal(completions('one.out').get('raw')?.logProbabilities, undefined);
  });

  it('gives the same log-probabilities to what it wrote and to what it is given, which are those of the engine', async () => {
    write('asked.jsonl', [{ id: 'a', messages: [{ role: 'user', content: 'Hello' }] }]);
    succeed(['generate', 'toy', 'asked.jsonl', '--output', 'asked.out', '--maximum-tokens', '200', '--log-probabilities']);
    const answer = completions('asked.out').get('a');
    assert.ok(answer?.logProbabilities !== undefined);
    const engine = await createEngine({
      ...{ modelFolder: join(folder, 'toy'), initialisation: { from: 'folder' }, parameters: { kind: 'none' } },
      ...{ precision: 'float32', device: 'cpu', layout: 'thread', threadCount: 1 },
    });
    try {
      const text = await loadModelText(join(folder, 'toy'));
      const prompt = promptTokens(text.template, text.tokenizer, [{ role: 'user', content: 'Hello' }]);
      const [score] = await engine.score([{ tokens: [...prompt, ...answer.tokens] }]);
      answer.logProbabilities.forEach((value, index) => {
        assert.ok(Math.abs(value - (score?.logProbabilities[prompt.length + index] ?? Number.NaN)) < 1e-4, `token ${index}`);
      });
    } finally {
      await engine.release();
    }
    write('given.jsonl', [{ id: 'b', messages: [{ role: 'user', content: 'Hello' }], completion: 'ok then' }]);
    succeed(['generate', 'toy', 'given.jsonl', '--output', 'given.out']);
    const given = completions('given.out').get('b');
    // seven bytes and the end of the turn
    assert.deepEqual([given?.finishReason, given?.tokens.length, given?.logProbabilities?.length], ['given', 8, 8]);
  });

  it('continues a file, and never mixes in what was asked otherwise', () => {
    write(
      'many.jsonl',
      [1, 2, 3].map((number) => ({ id: `n${number}`, prompt: `text ${number}` })),
    );
    const commandLine = ['generate', 'toy', 'many.jsonl', '--output', 'many.out', '--maximum-tokens', '4'];
    assert.match(succeed(commandLine), /^3 new completions of 3 prompts/);
    const whole = readFileSync(join(folder, 'many.out'), 'utf8');
    const lines = whole.trim().split('\n');
    // as a kill leaves it: a line is missing and the last one is torn
    writeFileSync(join(folder, 'many.out'), `${lines[0]}\n${lines[1]?.slice(0, 20)}`);
    assert.match(succeed(commandLine), /^2 new completions of 3 prompts/);
    assert.deepEqual(
      [...completions('many.out').values()].map(({ id, tokens }) => [id, tokens]).sort(),
      lines
        .map((line) => completionSchema.parse(JSON.parse(line)))
        .map(({ id, tokens }) => [id, tokens])
        .sort(),
    );
    const { status, stderr } = retort([...commandLine, '--seed', '1', '--temperature', '1']);
    assert.equal(status, 1);
    assert.match(stderr, /many\.out:1: this file holds something else than completions of these prompts/);
  });

  it('names the line of a prompt that is none', () => {
    for (const [line, message] of [
      [{ promt: 'x' }, /bad\.jsonl:2: expected "messages" or "prompt".* Did you mean "prompt"\?/],
      [{ messages: [{ role: 'robot', content: 'x' }] }, /bad\.jsonl:2: not a prompt: .*role/],
      [{ id: 'first', prompt: 'x' }, /bad\.jsonl:2: the id "first" was used at .*:1 already/],
      [{ prompt: 'x'.repeat(2000) }, /bad\.jsonl:2: the prompt has \d+ tokens and 256 more are wanted; the model's context holds 1024/],
    ] as const) {
      write('bad.jsonl', [{ id: 'first', prompt: 'fine' }, line]);
      const { status, stderr } = retort(['generate', 'toy', 'bad.jsonl', '--output', 'bad.out']);
      assert.match(stderr, message);
      assert.equal(status, 1);
    }
  });
});

describe('an adapter', () => {
  it('changes what a model says, and says the same when it is merged', () => {
    write('say.jsonl', [{ id: 'a', messages: [{ role: 'user', content: 'Say red' }] }]);
    const answer = (name: string, ...commandLine: readonly string[]): readonly number[] => {
      succeed(['generate', ...commandLine, 'say.jsonl', '--output', name, '--maximum-tokens', '8']);
      return completions(name).get('a')?.tokens ?? [];
    };
    const plain = answer('plain.out', 'toy');
    const adapted = answer('adapted.out', 'toy', '--adapter', 'adapter');
    assert.notDeepEqual(adapted, plain);
    assert.match(
      succeed(['export', 'toy', '--adapter', 'adapter', '--output', 'merged', '--format', 'float32']),
      /^Merged \d+ weights \(\d+\.\d % of their numbers changed\)/,
    );
    assert.deepEqual(answer('merged.out', 'merged'), adapted);
  });

  it('of another model is refused with the tensor', async () => {
    await writeToyModel(join(folder, 'wider'), { config: { intermediate_size: 96 } });
    const { status, stderr } = retort(['chat', 'wider', '--adapter', 'adapter']);
    assert.equal(status, 1);
    assert.match(stderr, /(gate|up|down)_proj/);
  });
});

describe('chat', () => {
  it('answers each line, remembers the conversation, and forgets it at an empty line', () => {
    const lines = succeed(['chat', 'toy', '--temperature', '0', '--maximum-tokens', '12', '--json'], 'one\ntwo\n\none\n')
      .trim()
      .split('\n')
      .map((line) => z.object({ content: z.string() }).parse(JSON.parse(line)).content);
    assert.equal(lines.length, 3);
    assert.equal(lines[2], lines[0]);
    assert.notEqual(lines[1], lines[0]);
  });
});

describe('evaluate', () => {
  it('measures a model, keeps its answers, and continues', () => {
    const commandLine = [
      'evaluate',
      'toy',
      '--task',
      'word-problems',
      '--limit',
      '3',
      '--output',
      'measured',
      '--maximum-tokens',
      '8',
      '--json',
    ];
    const first = JSON.parse(succeed(commandLine));
    assert.equal(first.answerCount, 3);
    assert.ok(first.logLikelihood < 0);
    const kept = readFileSync(join(folder, 'measured', 'answers.jsonl'), 'utf8');
    assert.equal(kept.trim().split('\n').length, 3);
    assert.deepEqual(JSON.parse(succeed(commandLine)), first);
    assert.equal(readFileSync(join(folder, 'measured', 'answers.jsonl'), 'utf8'), kept);
    const { status, stderr } = retort([...commandLine, '--adapter', 'adapter']);
    assert.equal(status, 1);
    assert.match(stderr, /holds answers that do not belong to this evaluation/);
  });
});
