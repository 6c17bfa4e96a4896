import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import { checkRun, isSound } from '../src/evaluation/check-run.ts';
import { forgetInRun } from '../src/methods/forget.ts';
import { run } from '../src/methods/stages.ts';
import { openRun } from '../src/run-folder/run-folder.ts';
import { jsonlTask } from '../src/tasks/jsonl.ts';
import { startFaultServer } from '../src/teachers/fault-server.ts';
import { writeToyModel } from './toy-model.ts';

/** A question is taken out of a finished run: what goes, who is told of, what a kill leaves. */
const root = await mkdtemp(join(tmpdir(), 'retort-forget-'));
after(() => rm(root, { recursive: true, force: true }));

const secret = 'jane-doe-17';
const secretText = 'Jane Doe of Elm Street 9 in Springfield has seven parrots and buys two more of them on Sunday: how many?';
const tested = 'john-roe-3';
const testedText = 'John Roe of Oak Street 4 in Shelbyville sells five of his eleven canaries to his neighbour. How many are left?';
const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');
const questions = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({
    id: `q-${from + index}`,
    question: `Add ${from + index} to ${index}.`,
    answer: String(from + 2 * index),
  }));
let config = '';
const finished = join(root, 'finished');
const options = { environment: {} };

before(async () => {
  const server = await startFaultServer({
    answer: ({ messages, seed = 0 }) => `Of "${messages[0]?.content.slice(0, 60)}" the answer is ${seed % 90}`,
  });
  try {
    await writeToyModel(join(root, 'student'));
    await writeFile(
      join(root, 'train.jsonl'),
      lines([...questions(10, 5), { id: secret, question: secretText, answer: '9' }, ...questions(30, 2)]),
    );
    await writeFile(join(root, 'test.jsonl'), lines([...questions(50, 4), { id: tested, question: testedText, answer: '6' }]));
    config = join(root, 'run.yaml');
    const settings = {
      name: 'toy',
      task: { name: 'jsonl', files: { train: 'train.jsonl', test: 'test.jsonl' }, fields: { id: 'id' }, scorer: { kind: 'number' } },
      teacher: { kind: 'openai-compatible', baseUrl: server.baseUrl, model: 'big' },
      student: { model: 'student', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
      training: { epochs: 1, rowsPerStep: 4, maximumLength: 400 },
      collection: {
        verify: {
          by: 'judge',
          teacher: { kind: 'openai-compatible', baseUrl: server.baseUrl, model: 'wise' },
          pattern: '(\\d+)$',
          rightFrom: 0,
        },
      },
      arms: ['none', 'gold', { shuffled: 'none' }],
      evaluation: { maximumTokens: 4, likelihood: false, teacher: false, primed: false, fewShots: { examples: 0 } },
      engine: { threadCount: 1 },
    };
    await writeFile(config, stringify(settings));
    await run(config, { ...options, output: finished });
  } finally {
    await server.close();
  }
});

const copyOf = async (name: string): Promise<string> => {
  const folder = join(root, name);
  await cp(finished, folder, { recursive: true });
  return folder;
};
const filesOf = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
/** Files in which one of some texts stands, however it is escaped. */
const holding = async (folder: string, ...texts: string[]): Promise<string[]> => {
  const found: string[] = [];
  for (const file of await filesOf(folder)) {
    const content = await readFile(join(folder, file), 'utf8');
    if (texts.some((text) => content.includes(text))) found.push(file);
  }
  return found;
};
const students = ['gold', 'none', 'shuffled'].map((name) => `${name}--lora--student--seed-0`);
const task = jsonlTask({
  name: 'jsonl',
  instruction: '',
  fields: { question: 'question', answer: 'answer', id: 'id' },
  scorer: { kind: 'number' },
});
const isWhole = async (folder: string): Promise<void> => {
  const check = await checkRun(await openRun(folder), task);
  assert.ok(isSound(check), JSON.stringify(check));
};

describe('forgetting a training question', () => {
  it('removes it and everything made from it, names the students that saw it, and leaves a run that agrees with itself', async () => {
    assert.ok((await holding(finished, secret)).length >= 6, 'it is in answers, verdicts and rows before');
    const folder = await copyOf('marked');
    const report = await forgetInRun({ folder, id: secret, students: 'mark' });
    assert.deepEqual(report.students, students);
    // Its answer, gold's, and in shuffled its own place and that where its answer stood; the verdict; each student's rows.
    assert.deepEqual(report.removed, {
      'responses/gold/responses.jsonl': 1,
      'responses/none/responses.jsonl': 1,
      'responses/shuffled/responses.jsonl': 2,
      'students/gold--lora--student--seed-0/rows.jsonl': 1,
      'students/none--lora--student--seed-0/rows.jsonl': 1,
      'students/shuffled--lora--student--seed-0/rows.jsonl': 2,
      'verdicts/none/responses.jsonl': 1,
    });
    assert.deepEqual(report.leftovers, []);
    assert.deepEqual(await holding(folder, secret, 'Jane Doe', 'Elm Street'), []);
    for (const name of students) assert.ok(existsSync(join(folder, 'students', name, 'saw-forgotten-question.json')), name);
    const { warnings, stages } = await (await openRun(folder)).manifest();
    assert.equal(warnings.filter(({ message }) => message.includes('trained on a question that was forgotten')).length, 3);
    assert.match(await readFile(join(folder, 'report', 'report.md'), 'utf8'), /trained on a question that was forgotten/);
    assert.equal(stages['collect--none']?.facts['keptCount'], 7);
    const { files } = JSON.parse(await readFile(join(folder, 'responses', 'provenance.json'), 'utf8'));
    assert.equal(
      files['responses/none/responses.jsonl'].sha256,
      (await (await openRun(folder)).manifest()).files['responses/none/responses.jsonl']?.sha256,
    );
    await isWhole(folder);
  });

  it('is not asked again when the run goes on, though it still stands in the data: students are trained anew without it', async () => {
    const folder = join(root, 'marked');
    // Nobody answers any more: all that is needed is there.
    await run(config, { ...options, output: folder });
    assert.deepEqual(await holding(folder, secret, 'Jane Doe'), []);
    for (const name of students) {
      assert.ok(!existsSync(join(folder, 'students', name, 'saw-forgotten-question.json')), name);
      const rows = (await readFile(join(folder, 'students', name, 'rows.jsonl'), 'utf8')).trim().split('\n');
      assert.equal(rows.length, 7, name);
    }
    await isWhole(folder);
  });

  it('removes the students that saw it and what they answered where that is asked for', async () => {
    const folder = await copyOf('removed');
    const { studentsAre } = await forgetInRun({ folder, id: secret, students: 'remove' });
    assert.equal(studentsAre, 'removed');
    assert.deepEqual(await readdir(join(folder, 'students')), []);
    assert.deepEqual(await readdir(join(folder, 'evaluations')), ['untouched--student.jsonl']);
    assert.deepEqual(await holding(folder, secret, 'Jane Doe'), []);
    await isWhole(folder);
  });

  it('goes on where a kill left it, to the same end; meanwhile the run does not start', { timeout: 120_000 }, async () => {
    const folder = await copyOf('killed');
    const main = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
    const random = randomFrom(Number(process.env['RETORT_SEED'] ?? 1), 'kills of a forgetting');
    for (let kill = 0; kill < 3; kill++) {
      const child = spawn(process.execPath, [main, 'forget', folder, secret], { stdio: 'ignore' });
      while (!existsSync(join(folder, 'forgetting.json')) && child.exitCode === null) await sleep(1);
      await sleep(random.uniform() * 60);
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      if (!existsSync(join(folder, 'forgetting.json'))) break;
      await assert.rejects(
        run(config, { ...options, output: folder }),
        /was stopped before its end\. Finish it first: retort forget .* "jane-doe-17"/,
      );
      await assert.rejects(forgetInRun({ folder, id: 'q-11', students: 'mark' }), /Forgetting "jane-doe-17" was stopped/);
    }
    if (existsSync(join(folder, 'forgetting.json'))) {
      assert.deepEqual((await forgetInRun({ folder, id: secret, students: 'mark' })).students, students);
    }
    const calm = await copyOf('calm');
    await forgetInRun({ folder: calm, id: secret, students: 'mark' });
    assert.deepEqual(await filesOf(folder), await filesOf(calm));
    for (const file of await filesOf(folder))
      if (file.endsWith('.jsonl')) assert.equal(await readFile(join(folder, file), 'utf8'), await readFile(join(calm, file), 'utf8'), file);
    assert.deepEqual(await holding(folder, secret, 'Jane Doe'), []);
    await isWhole(folder);
  });
});

describe('forgetting a test question', () => {
  it('removes its answers of every subject and writes the report without it', async () => {
    const folder = await copyOf('tested');
    assert.ok((await holding(folder, tested)).length >= 4);
    const report = await forgetInRun({ folder, id: tested, students: 'mark' });
    assert.deepEqual([report.split, report.students], ['test', []]);
    assert.deepEqual(await holding(folder, tested, 'John Roe', 'Oak Street'), []);
    assert.match(await readFile(join(folder, 'report', 'report.md'), 'utf8'), /4 questions of jsonl/);
    await isWhole(folder);
    await run(config, { ...options, output: folder });
    assert.deepEqual(await holding(folder, tested, 'John Roe'), []);
  });
});

describe('forgetting what is not there, or there twice', () => {
  it('says so with the nearest id, and wants to know which of two is meant', async () => {
    const folder = await copyOf('asked');
    const refuse = (id: string, message: RegExp) =>
      assert.rejects(forgetInRun({ folder, id, students: 'mark' }), (thrown) => {
        assert.ok(thrown instanceof UserError);
        assert.match(thrown.message, message);
        return true;
      });
    await refuse('jane-doe-71', /Nothing in .* was made from a question called "jane-doe-71"\. Did you mean jane-doe-17\?/);
    const file = join(folder, 'evaluations', 'untouched--student.jsonl');
    await writeFile(file, (await readFile(file, 'utf8')).replace('"q-50"', '"q-10"'));
    await refuse('q-10', /is a training question and a test question.*--split train or --split test/);
    assert.equal((await forgetInRun({ folder, id: 'q-10', split: 'test', students: 'mark' })).split, 'test');
    assert.ok((await holding(folder, '"q-10"')).some((path) => path.startsWith('responses')));
    assert.ok(!existsSync(join(folder, 'forgetting.json')));
  });
});
