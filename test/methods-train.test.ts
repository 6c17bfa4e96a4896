import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import { train } from '../src/methods/stages.ts';
import { readAdapter } from '../src/weights/adapter.ts';
import { openModelFolder } from '../src/weights/model-folder.ts';
import { hashesOf } from './toy-fine-tune.ts';
import { writeToyModel } from './toy-model.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-train-'));
after(() => rm(root, { recursive: true, force: true }));

before(async () => {
  await writeToyModel(join(root, 'model'), { systemText: 'Be kind.' });
  await writeFile(join(root, 'chats.jsonl'), lines(chats(1, 12)));
  await writeFile(join(root, 'development.jsonl'), lines(chats(2, 3)));
});

const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

const chats = (seed: number, count: number) => {
  const random = randomFrom(seed, 'chats');
  return Array.from({ length: count }, () => {
    const [a, b] = [random.integer(9), random.integer(9)];
    return {
      messages: [
        { role: 'user', content: `${a}+${b}` },
        { role: 'assistant', content: String(a + b) },
      ],
    };
  });
};

/** A config in the folder, by what differs from the plainest one. */
const configOf = async (name: string, changes: Readonly<Record<string, unknown>> = {}): Promise<string> => {
  const config = {
    data: { train: 'chats.jsonl', development: 'development.jsonl' },
    student: { model: 'model', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
    training: { epochs: 2, rowsPerStep: 4, learningRate: 0.01, stepsPerCheckpoint: 2, stepsPerEvaluation: 3 },
    engine: { threadCount: 1 },
    output: name,
    ...changes,
  };
  await writeFile(join(root, `${name}.yaml`), stringify(config));
  return join(root, `${name}.yaml`);
};

const trained = async (name: string, changes: Readonly<Record<string, unknown>> = {}, told: string[] = []) =>
  train(await configOf(name, changes), { offline: true, environment: {}, say: (line) => told.push(line) });

const reportOf = async (name: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(root, name, 'training.json'), 'utf8'));

const refuses = (promise: Promise<unknown>, message: RegExp): Promise<void> =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, message);
    return true;
  });

describe('training an adapter on chats', () => {
  it('writes a PEFT adapter and says what was done; started again, it does nothing', async () => {
    const told: string[] = [];
    const report = await trained('chats', {}, told);
    // 12 rows, 4 a step, 2 epochs; each answer has its digits and the end of the turn.
    const learnt = chats(1, 12).reduce((sum, { messages }) => sum + (messages[1]?.content.length ?? 0) + 1, 0);
    const { rowCount, droppedCount, stepCount, trainedTokenCount, wasDone } = report;
    assert.deepEqual(
      { rowCount, droppedCount, stepCount, trainedTokenCount, wasDone },
      {
        rowCount: 12,
        droppedCount: 0,
        stepCount: 6,
        trainedTokenCount: 2 * learnt,
        wasDone: false,
      },
    );
    assert.match(told.join('\n'), new RegExp(`12 rows, ${learnt} tokens to learn`));
    const { lora, parameters } = await readAdapter(join(root, 'chats'));
    assert.equal(lora.rank, 2);
    // Trained: B is no longer 0.
    assert.ok(Object.entries(parameters).every(([name, { data }]) => !name.includes('lora_B') || data.some((value) => value !== 0)));
    const before = await hashesOf(join(root, 'chats'));
    assert.deepEqual(await trained('chats'), { ...report, wasDone: true });
    assert.deepEqual(await hashesOf(join(root, 'chats')), before);
  });

  it('records the template, with the system text that it puts in front by itself and its date', async () => {
    const { template } = await reportOf('chats');
    assert.ok(typeof template === 'object' && template !== null && 'hash' in template);
    assert.match(String(template.hash), /^[0-9a-f]{64}$/);
    assert.deepEqual({ ...template, hash: '' }, { name: "the model's own", hash: '', systemText: 'Be kind.', date: '2024-07-26' });
  });

  it('refuses the folder of a training with other settings, other data or another seed', async () => {
    for (const changes of [
      { training: { epochs: 2, rowsPerStep: 4, learningRate: 0.02, stepsPerCheckpoint: 2, stepsPerEvaluation: 3 } },
      { data: { train: 'chats.jsonl', development: 'development.jsonl', limit: 11 } },
      { data: { train: 'chats.jsonl' } },
      { seed: 1 },
      { engine: { threadCount: 1, precision: 'int8' } },
    ]) {
      await refuses(
        trained('chats', changes),
        /chats holds a student that was trained otherwise \(training\.json\)\. Give the output another folder/,
      );
    }
  });

  it('learns on a base in 8 bits, with two runners', async () => {
    const { developmentLoss } = await trained('bytes', { engine: { threadCount: 2, precision: 'int8' } });
    const exact = await trained('exact', {});
    assert.ok(developmentLoss !== undefined && exact.developmentLoss !== undefined);
    assert.notEqual(developmentLoss, exact.developmentLoss);
    assert.ok(Math.abs(developmentLoss - exact.developmentLoss) < 0.05, `${developmentLoss} beside ${exact.developmentLoss}`);
  });

  it('refuses to write over weights that it did not leave there', async () => {
    await refuses(trained('model'), /model holds weights \(model\.safetensors\).*another folder/);
    await mkdir(join(root, 'elsewhere'));
    await cp(join(root, 'chats', 'adapter_model.safetensors'), join(root, 'elsewhere', 'adapter_model.safetensors'));
    await refuses(trained('elsewhere'), /elsewhere holds weights \(adapter_model\.safetensors\)/);
  });

  it('learns raw completions as well', async () => {
    const pairs = chats(3, 6).map(({ messages }) => ({ prompt: `${messages[0]?.content}=`, completion: messages[1]?.content }));
    await writeFile(join(root, 'pairs.jsonl'), lines(pairs));
    const report = await trained('pairs', { data: { train: 'pairs.jsonl' } });
    const learnt = pairs.reduce((sum, { completion = '' }) => sum + completion.length + 1, 0);
    assert.equal(report.trainedTokenCount, 2 * learnt);
    assert.equal(report.developmentLoss, undefined);
  });
});

describe('training every parameter of new weights', () => {
  const whole = { student: { model: 'model', initialisation: 'random', parameters: { kind: 'all' } } };

  it('writes a model that can be opened; the same seed gives the same bytes', async () => {
    await trained('whole', whole);
    await trained('whole-again', whole);
    const weights = async (name: string) => (await hashesOf(join(root, name)))['model.safetensors'];
    assert.equal(await weights('whole-again'), await weights('whole'));
    await trained('whole-other', { ...whole, seed: 1 });
    assert.notEqual(await weights('whole-other'), await weights('whole'));
    const { tensors } = await openModelFolder(join(root, 'whole'));
    try {
      assert.deepEqual(tensors.names.get('model.embed_tokens.weight')?.shape, [258, 32]);
      assert.ok(!tensors.names.has('lm_head.weight'), 'the tied head was written');
    } finally {
      await tensors.close();
    }
  });

  it('started again, it does nothing; in another format it is another model', async () => {
    assert.equal((await trained('whole', whole)).wasDone, true);
    await refuses(trained('whole', { ...whole, format: 'bfloat16' }), /trained otherwise/);
  });

  it('is not done with an adapter, which would be kept without the weights that it stands on', async () => {
    await refuses(
      trained('lost', { student: { model: 'model', initialisation: 'random' } }),
      /config\.student\.initialisation: .*kind: all/,
    );
  });
});

describe('rows that cannot be learnt', () => {
  it('are left out and counted where they are too long', async () => {
    // The prompt alone has 52 tokens: <|im_start|>system\nBe kind.<|im_end|>\n, <|im_start|>user\n1+1<|im_end|>\n, <|im_start|>assistant\n.
    const long = { messages: [chats(1, 1)[0]?.messages[0], { role: 'assistant', content: 'x'.repeat(60) }] };
    await writeFile(join(root, 'long.jsonl'), lines([...chats(1, 4), long]));
    const settings = { epochs: 1, rowsPerStep: 4, maximumLength: 64 };
    const told: string[] = [];
    const report = await trained('long', { data: { train: 'long.jsonl' }, training: settings }, told);
    assert.deepEqual([report.rowCount, report.droppedCount], [4, 1]);
    assert.match(told.join('\n'), /1 rows left out as too long/);
    await writeFile(join(root, 'all-long.jsonl'), lines([long]));
    await refuses(
      trained('all-long', { data: { train: 'all-long.jsonl' }, training: settings }),
      /all-long\.jsonl: none of the 1 rows fits into 64 tokens.*Raise maximumLength/,
    );
  });

  it('are an error with file and line where the answer is empty', async () => {
    const [first] = chats(1, 1);
    await writeFile(join(root, 'empty.jsonl'), lines([first, { messages: [first?.messages[0], { role: 'assistant', content: ' ' }] }]));
    await refuses(trained('empty', { data: { train: 'empty.jsonl' } }), /empty\.jsonl:2: .*empty/);
    await writeFile(
      join(root, 'empty-pair.jsonl'),
      lines([
        { prompt: 'a', completion: 'b' },
        { prompt: 'a', completion: '' },
      ]),
    );
    await refuses(trained('empty-pair', { data: { train: 'empty-pair.jsonl' } }), /empty-pair\.jsonl:2: .*empty/);
  });

  it('leave the folder free, so that the mended data can be trained on', async () => {
    await writeFile(join(root, 'empty.jsonl'), lines(chats(1, 2)));
    assert.equal((await trained('empty', { data: { train: 'empty.jsonl' } })).rowCount, 2);
  });
});

describe('Ctrl-C in the middle of `retort train`', { skip: process.platform === 'win32' && 'Windows has no such signals' }, () => {
  it('ends with 130 and how to go on, which leads to the same bytes', { timeout: 120_000 }, async () => {
    const changes = { training: { epochs: 40, rowsPerStep: 4, learningRate: 0.01, stepsPerCheckpoint: 50 } };
    await trained('calm', changes);
    const config = await configOf('interrupted', changes);
    const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
    const child = spawn(process.execPath, [main, 'train', config, '--offline'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let told = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      told += text;
    });
    const metrics = join(root, 'interrupted', 'metrics.jsonl');
    const lineCount = async () => (await readFile(metrics, 'utf8').catch(() => '')).split('\n').length - 1;
    while ((await lineCount()) < 10 && child.exitCode === null) await sleep(5);
    child.kill('SIGINT');
    const [code, signal] = await once(child, 'exit');
    assert.deepEqual([code, signal], [130, null], told);
    assert.match(told, /Stopped; what was done is kept\. To go on: retort train .*interrupted\.yaml --offline/);
    assert.doesNotMatch(told, /\n\s+at /);
    assert.ok((await lineCount()) < 120, 'it was stopped in the middle');
    await trained('interrupted', changes);
    const adapterOf = async (name: string) => (await hashesOf(join(root, name)))['adapter_model.safetensors'];
    assert.equal(await adapterOf('interrupted'), await adapterOf('calm'));
  });
});
