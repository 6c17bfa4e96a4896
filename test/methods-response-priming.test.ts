import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { readJsonLines } from '../src/base/json-lines.ts';
import { randomFrom } from '../src/base/random.ts';
import { parseRunConfig } from '../src/config/parse-config.ts';
import { readAnswerRecords } from '../src/evaluation/answer-record.ts';
import type { RunSummary } from '../src/evaluation/summary.ts';
import { armRows } from '../src/methods/arm-rows.ts';
import { evaluateModel } from '../src/methods/evaluate-model.ts';
import { openLocalModel } from '../src/methods/local-model.ts';
import { questionsOf } from '../src/methods/questions.ts';
import { spentElsewhere } from '../src/methods/run-spending.ts';
import { readConfig, run, surroundingsOf } from '../src/methods/stages.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { hashOf } from '../src/run-folder/compare-configs.ts';
import { openRun } from '../src/run-folder/run-folder.ts';
import { checkFiles } from '../src/run-folder/stage.ts';
import { startFaultServer } from '../src/teachers/fault-server.ts';
import { loadModelText } from '../src/text/model-text.ts';
import { writeToyModel } from './toy-model.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-priming-'));
after(() => rm(root, { recursive: true, force: true }));

const priming = 'PRIMING: be brief.';
const trainCount = 10;
const testCount = 6;
const seeds = [0, 1];

const questions = (count: number, from: number) =>
  Array.from({ length: count }, (_, index) => ({ question: `${from + index}+${index}`, answer: String(from + 2 * index) }));
const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

before(async () => {
  await writeToyModel(join(root, 'student'), { systemText: 'Be kind.' });
  await writeToyModel(join(root, 'teacher'), { seed: 2, systemText: 'Be kind.' });
  await writeFile(join(root, 'train.jsonl'), lines(questions(trainCount + 2, 10)));
  await writeFile(join(root, 'test.jsonl'), lines(questions(testCount, 50)));
  const recorded = questions(trainCount, 10).map(({ question, answer }) => ({ question, answer: `It is ${answer}.` }));
  // One that is too long to be learnt, and so is no row of any arm.
  await writeFile(
    join(root, 'recorded.jsonl'),
    lines(recorded.with(3, { question: recorded[3]?.question ?? '', answer: 'x'.repeat(200) })),
  );
});

const settings = (teacher: object) => ({
  name: 'toy',
  seeds,
  task: {
    name: 'jsonl',
    files: { train: 'train.jsonl', test: 'test.jsonl' },
    scorer: { kind: 'number' },
    instruction: 'A number.',
    train: { limit: trainCount },
    development: { limit: 2 },
  },
  teacher,
  sampling: { maximumTokens: 16, accept: ['length'] },
  student: { model: 'student', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
  training: { epochs: 2, rowsPerStep: 4, learningRate: 0.01, maximumLength: 160, stepsPerCheckpoint: 2 },
  arms: ['none', { name: 'primed', text: priming }, 'gold', { shuffled: 'none' }, { recorded: 'recorded.jsonl' }],
  evaluation: { maximumTokens: 8 },
  engine: { threadCount: 1, workers: 2 },
});
const armNames = ['none', 'primed', 'gold', 'shuffled', 'recorded'];

const configOf = async (name: string, config: object): Promise<string> => {
  await writeFile(join(root, `${name}.yaml`), stringify(config));
  return join(root, `${name}.yaml`);
};

const options = (name: string) => ({ output: join(root, 'runs', name), offline: true, environment: {} });

/** All numbers, without times, names and the sessions that a killed run has more of. */
const numbersOf = ({ questionCount, questionsHash, headline, groups, rows, comparisons, collections }: RunSummary) =>
  structuredClone({ questionCount, questionsHash, headline, groups, rows, comparisons, collections });

const refuses = (promise: Promise<unknown>, message: RegExp): Promise<void> =>
  assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, message);
    return true;
  });

describe('a run with a local teacher', () => {
  let config = '';
  let summary: RunSummary;
  const folder = join(root, 'runs', 'local');

  before(async () => {
    config = await configOf('local', settings({ kind: 'local', model: 'teacher' }));
    ({ summary } = await run(config, options('local')));
  });

  const asked = ['untouched--student--shots-4', 'untouched--student--primed-primed'];
  const subjects = ['teacher', 'untouched--student', ...asked];

  it('measures the untouched student, the teacher and a student for each arm and seed, each on every question', () => {
    assert.deepEqual(summary.unfinished, []);
    assert.equal(summary.questionCount, testCount);
    assert.deepEqual(
      summary.rows.map(({ name }) => name).sort(),
      [...subjects, ...armNames.flatMap((name) => seeds.map((seed) => `${name}--lora--student--seed-${seed}`))].sort(),
    );
    for (const { name, format, likelihood } of summary.rows) {
      assert.equal(format.answerCount, testCount);
      assert.equal(likelihood === undefined, name === 'teacher' || asked.includes(name));
    }
    // Questions that the teacher gave no answer to in one of its two arms, and the one whose recorded answer is too long, are no arm's.
    const rowCount = summary.rows.find(({ training }) => training !== undefined)?.training?.rowCount ?? 0;
    const failedCount = summary.collections.reduce((sum, collection) => sum + collection.failedCount, 0);
    assert.ok(rowCount <= trainCount - 1 && rowCount >= trainCount - 1 - failedCount && rowCount > trainCount / 2, `${rowCount} rows`);
    // 4 rows a step, 2 epochs.
    for (const { training } of summary.rows.filter(({ subject }) => subject.kind === 'arm')) {
      assert.deepEqual([training?.rowCount, training?.droppedCount, training?.stepCount], [rowCount, 1, 2 * Math.ceil(rowCount / 4)]);
    }
  });

  it('trains all arms on the same questions under the same prompts, and no student ever sees a priming', async () => {
    const { config: parsed } = readConfig(parseRunConfig, config, {});
    const folderOfRun = await openRun(folder);
    const { task, train } = await questionsOf(parsed.task, {});
    const text = await loadModelText(join(root, 'student'));
    const { stages } = await folderOfRun.manifest();
    const collected = new Map(
      await Promise.all(
        armNames.map(
          async (name) =>
            [name, await readResponses(join(folder, 'responses', name), { keys: keysOf(stages[`collect--${name}`]?.facts) })] as const,
        ),
      ),
    );
    const surroundings = await surroundingsOf({ offline: true, environment: {} });
    const rows = await armRows(collected, { examples: train, task, text, config: parsed, run: folderOfRun, surroundings });
    const promptsOf = (name: string) =>
      new Map(
        rows.get(name)?.rows.map(({ item, row }) => [item.example.id, text.tokenizer.decode(row.tokens.slice(0, row.promptTokenCount))]),
      );
    const expected = promptsOf('none');
    const tooLong = train[3]?.id ?? '';
    const answeredInAll = train.filter(({ id }) =>
      armNames.every((name) => collected.get(name)?.some(({ exampleId }) => exampleId === id)),
    );
    assert.ok(answeredInAll.some(({ id }) => id === tooLong));
    assert.deepEqual([...expected.keys()].sort(), answeredInAll.flatMap(({ id }) => (id === tooLong ? [] : id)).sort());
    for (const prompt of expected.values()) {
      assert.match(
        prompt,
        /^<\|im_start\|>system\nBe kind\.<\|im_end\|>\n<\|im_start\|>user\n\d+\+\d+\n\nA number\.<\|im_end\|>\n<\|im_start\|>assistant\n$/,
      );
    }
    for (const name of armNames) {
      assert.deepEqual(promptsOf(name), expected, name);
      const learnt = rows.get(name)?.rows ?? [];
      for (const { row, item } of learnt) {
        const whole = text.tokenizer.decode(row.tokens);
        assert.ok(!whole.includes('PRIMING'), whole);
        // What is learnt is the answer and the end of the turn, nothing else.
        const taught = row.tokens.filter((_, index) => row.weights[index] === 1);
        assert.deepEqual(taught, [...text.tokenizer.encode(item.response.text.trim()), 257]);
      }
      // These are the rows that the run trained on.
      const weighted = learnt.reduce((sum, { row }) => sum + row.weightedTokenCount, 0);
      const trained = summary.rows.filter(({ subject }) => subject.kind === 'arm' && subject.arm.source === name);
      assert.deepEqual(
        trained.map(({ training }) => training?.trainedTokenCount),
        [2 * weighted, 2 * weighted],
        name,
      );
    }
    // The teacher did see it.
    const unprimed = new Map(collected.get('none')?.map(({ exampleId, promptHash }) => [exampleId, promptHash]));
    for (const { exampleId, promptHash } of collected.get('primed') ?? []) assert.notEqual(promptHash, unprimed.get(exampleId));
  });

  it('says what it left out, and why', () => {
    assert.match(summary.warnings.join('\n'), /collect--none.*1 kept answers are not trained on, since another arm's .* too long/);
  });

  it('records the template of every student that was trained or measured', async () => {
    const { stages } = await (await openRun(folder)).manifest();
    const { hash } = (await loadModelText(join(root, 'student'))).template;
    const expected = { name: "the model's own", hash, systemText: 'Be kind.', date: '2024-07-26' };
    for (const stage of ['train--gold--lora--student--seed-1', 'evaluate--untouched--student', 'likelihood--gold--lora--student--seed-0']) {
      assert.deepEqual(stages[stage]?.facts['template'], expected, stage);
    }
  });

  it('measures as untouched what the base model answers without any adapter', async () => {
    const { config: parsed } = readConfig(parseRunConfig, config, {});
    const { task, openTest } = await questionsOf(parsed.task, {});
    const model = await openLocalModel({ model: join(root, 'student'), threadCount: 1 }, { resolveModel: async (path) => path });
    try {
      const { answers, likelihoods } = await evaluateModel({
        ...{ model, task, examples: await openTest(), folder: join(root, 'plain'), likelihood: true },
        sampling: { maximumTokens: 8, temperature: 0, topP: 1, seed: 0 },
      });
      const read = async (name: string) => {
        const found: Record<string, unknown>[] = [];
        for await (const { value } of readJsonLines(join(folder, 'evaluations', name))) found.push({ ...(value as object) });
        return found;
      };
      const texts = new Map((await read('untouched--student.jsonl')).map((answer) => [answer['id'], answer['text']]));
      assert.deepEqual(new Map(answers.map(({ id, text }) => [id, text])), texts);
      const untouched = new Map(
        (await read('untouched--student.likelihood.jsonl')).map((record) => [record['id'], record['logLikelihood']]),
      );
      for (const { id, logLikelihood } of likelihoods ?? []) assert.ok(Math.abs(logLikelihood - Number(untouched.get(id))) < 1e-4);
    } finally {
      await model.engine.release();
    }
  });

  it('started again, does nothing and says the same; its files are what was written', async () => {
    const before = await (await openRun(folder)).manifest();
    const again = await run(config, options('local'));
    assert.deepEqual(numbersOf(again.summary), numbersOf(summary));
    const after_ = await (await openRun(folder)).manifest();
    for (const [name, stage] of Object.entries(before.stages)) {
      if (name !== 'report') assert.deepEqual(after_.stages[name], stage, name);
    }
    assert.deepEqual(await checkFiles(await openRun(folder)), []);
  });

  it('goes on where it was begun before answers could be drawn in 8 bits, and not in 8 bits', async () => {
    const copy = join(root, 'runs', 'earlier');
    await cp(folder, copy, { recursive: true });
    const { paths, update } = await openRun(copy);
    const { engine, ...rest } = JSON.parse(await readFile(paths.resolvedConfig, 'utf8'));
    const { inferencePrecision, ...earlier } = engine;
    assert.equal(inferencePrecision, 'float32');
    const resolved = { ...rest, engine: earlier };
    await writeFile(paths.resolvedConfig, JSON.stringify(resolved));
    await update((manifest) => ({ ...manifest, configHash: hashOf(resolved) }));
    await refuses(
      run(config, { ...options('earlier'), set: ['engine.inferencePrecision=int8'] }),
      /holds a run of another config:\n {2}engine\.inferencePrecision: absent in the run, "int8" now/,
    );
    assert.deepEqual(numbersOf((await run(config, options('earlier'))).summary), numbersOf(summary));
  });

  it('is not mixed with another config', async () => {
    await refuses(
      run(config, { ...options('local'), set: ['training.epochs=3'] }),
      /holds a run of another config:\n {2}training\.epochs: 2 in the run, 3 now/,
    );
  });

  it('trains a lost student anew, to the same bytes and so the same answers', async () => {
    const copy = join(root, 'runs', 'lost');
    await cp(folder, copy, { recursive: true });
    await rm(join(copy, 'students', 'gold--lora--student--seed-1'), { recursive: true });
    const again = await run(config, options('lost'));
    assert.deepEqual(numbersOf(again.summary), numbersOf(summary));
    const [first, second] = [await (await openRun(folder)).manifest(), await (await openRun(copy)).manifest()];
    const weights = 'students/gold--lora--student--seed-1/adapter/adapter_model.safetensors';
    assert.ok(first.files[weights] !== undefined);
    assert.deepEqual(second.files[weights], first.files[weights]);
    // Not answered anew: the weights are the same.
    const evaluation = 'evaluate--gold--lora--student--seed-1';
    assert.deepEqual(second.stages[evaluation], first.stages[evaluation]);
  });
});

const keysOf = (facts: Readonly<Record<string, unknown>> | undefined): string[] => {
  const keys = facts?.['keys'];
  return Array.isArray(keys) ? keys.map(String) : [];
};

describe('a run killed at random moments', () => {
  it('has in the end the numbers of an undisturbed one', { timeout: 300_000 }, async () => {
    const config = await configOf('fake', settings({ kind: 'fake' }));
    const calm = await run(config, options('calm'));
    const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
    const random = randomFrom(Number(process.env['RETORT_SEED'] ?? 1), 'kills of a run');
    const folder = join(root, 'runs', 'killed');
    const doneCount = async (): Promise<number> => {
      const text = await readFile(join(folder, 'manifest.json'), 'utf8').catch(() => '');
      return text.split('"status": "done"').length - 1;
    };
    // 5 collections, 10 trainings, 11 times answers and likelihoods, and the teacher's answers.
    for (const goal of [2, 9, 20]) {
      const child = spawn(process.execPath, [main, 'run', config, '--offline', '--output', folder], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      while ((await doneCount()) < goal && child.exitCode === null) await sleep(2);
      await sleep(random.uniform() * 50);
      assert.equal(child.exitCode, null, 'it ended before it was killed');
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    const { summary } = await run(config, options('killed'));
    assert.deepEqual(numbersOf(summary), numbersOf(calm.summary));
    const hashes = async (name: string) => {
      const { files } = await (await openRun(join(root, 'runs', name))).manifest();
      return Object.fromEntries(Object.entries(files).filter(([file]) => file.endsWith('.safetensors')));
    };
    assert.equal(Object.keys(await hashes('killed')).length, armNames.length * seeds.length);
    assert.deepEqual(await hashes('killed'), await hashes('calm'));
  });
});

describe('runs that cannot be', () => {
  it('ask a local teacher again whose weights have changed under the same path', async () => {
    const few = {
      ...settings({ kind: 'local', model: 'changing' }),
      ...{ arms: ['none', 'gold'], seeds: [0], evaluation: { maximumTokens: 8, teacher: false } },
    };
    const answers = async () => {
      await run(await configOf('changing', few), options('changing'));
      const { stages } = await (await openRun(join(root, 'runs', 'changing'))).manifest();
      return readResponses(join(root, 'runs', 'changing', 'responses', 'none'), { keys: keysOf(stages['collect--none']?.facts) });
    };
    await writeToyModel(join(root, 'changing'), { seed: 3 });
    const first = await answers();
    assert.deepEqual(await answers(), first);
    await writeToyModel(join(root, 'changing'), { seed: 4 });
    const second = await answers();
    assert.equal(second.length, first.length);
    assert.notDeepEqual(new Set(second.map(({ teacher }) => teacher)), new Set(first.map(({ teacher }) => teacher)));
  });

  it('without a question that every arm has an answer to, say which arm has none', async () => {
    const config = settings({ kind: 'fake' });
    const long = { ...config.sampling, maximumTokens: 1, accept: [] };
    const local = { ...config, teacher: { kind: 'local', model: 'teacher' }, arms: ['none', 'gold'], sampling: long };
    await refuses(
      run(await configOf('unanswered', local), options('unanswered')),
      /No question has a kept answer in every arm.*Kept answers: none 0, gold 10\./,
    );
  });

  it("stop before the teacher's answers to test questions cross the budget, and go on when it is raised", async () => {
    const server = await startFaultServer({});
    try {
      const within = (requests: number) =>
        configOf('bounded', {
          ...settings({ kind: 'openai-compatible', baseUrl: server.baseUrl, model: 'big', concurrency: 1 }),
          ...{
            arms: ['none', 'gold'],
            seeds: [0],
            collection: { budget: { requests }, prices: { inputPerMillion: 3, outputPerMillion: 15 } },
          },
        });
      await refuses(
        run(await within(trainCount + 4), options('bounded')),
        /14 requests are spent\. Raise budget\.requests to go on.*evaluation\.teacher: false/,
      );
      assert.equal(server.billedCount(), trainCount + 4);
      await run(await within(trainCount + testCount), options('bounded'));
      assert.equal(server.billedCount(), trainCount + testCount, 'none is bought twice');
      const answers = await readAnswerRecords(join(root, 'runs', 'bounded', 'evaluations', 'teacher.jsonl'));
      for (const { promptTokenCount, tokenCount, spent } of answers) {
        const [prompt, answer] = [promptTokenCount ?? Number.NaN, tokenCount ?? Number.NaN];
        assert.deepEqual(spent, { requests: 1, tokens: prompt + answer, usd: (3 * prompt + 15 * answer) / 1e6 });
      }
      // What is spent is known to the next start, in every measure.
      const whole = await spentElsewhere(undefined, { config: { arms: [] }, run: await openRun(join(root, 'runs', 'bounded')) });
      assert.equal(whole.requests, testCount);
      assert.equal(
        whole.tokens,
        answers.reduce((sum, { spent }) => sum + (spent?.tokens ?? 0), 0),
      );
      assert.ok(whole.usd > 0);
    } finally {
      await server.close();
    }
  });

  it('with answers that are too long in one arm alone, say so', async () => {
    const config = settings({ kind: 'fake' });
    const short = { ...config, arms: ['gold', { recorded: 'recorded.jsonl' }], training: { ...config.training, maximumLength: 58 } };
    await refuses(run(await configOf('too-long', short), options('too-long')), /arm recorded: none of the 10 rows fits into 58 tokens/);
  });

  it('leave their folder free and their engines released', async () => {
    const config = await configOf('missing', { ...settings({ kind: 'local', model: 'teacher' }), arms: ['none'] });
    await rm(join(root, 'teacher-away'), { recursive: true, force: true });
    await cp(join(root, 'teacher'), join(root, 'teacher-away'), { recursive: true });
    await rm(join(root, 'teacher', 'model.safetensors'));
    await refuses(run(config, options('missing')), /teacher/);
    await cp(join(root, 'teacher-away'), join(root, 'teacher'), { recursive: true });
    const { summary } = await run(config, options('missing'));
    assert.deepEqual(summary.unfinished, []);
  });
});
