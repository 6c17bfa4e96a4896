import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { stringify } from 'yaml';
import { run } from '../src/methods/stages.ts';
import { writeToyModel } from './toy-model.ts';

/** Which questions an arm is trained on of which fewer answers are kept than of another. */
const root = await mkdtemp(join(tmpdir(), 'retort-matching-'));
after(() => rm(root, { recursive: true, force: true }));

before(async () => {
  await writeToyModel(join(root, 'student'));
  const row = (index: number) => ({ id: `q${index}`, question: `Add ${index} and ${index}.`, answer: String(2 * index) });
  await writeFile(join(root, 'train.jsonl'), [1, 2, 3, 4, 5, 6].map((index) => `${JSON.stringify(row(index))}\n`).join(''));
  await writeFile(join(root, 'test.jsonl'), [51, 52].map((index) => `${JSON.stringify(row(index))}\n`).join(''));
  // Two answers to each question: of q1 to q3 one is right, of the others none.
  const answers = [1, 2, 3, 4, 5, 6].flatMap((index) => [
    { id: `q${index}`, answer: `First #### ${index > 3 ? 0 : 2 * index}` },
    { id: `q${index}`, answer: `Second #### 1` },
  ]);
  await writeFile(join(root, 'recorded.jsonl'), answers.map((answer) => `${JSON.stringify(answer)}\n`).join(''));
});

const trained = async (matching: string) => {
  const config = {
    name: matching,
    task: { name: 'jsonl', files: { train: 'train.jsonl', test: 'test.jsonl' }, fields: { id: 'id' }, scorer: { kind: 'number' } },
    sampling: { answersPerQuestion: 2 },
    student: { model: 'student', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
    training: { epochs: 1, rowsPerStep: 4 },
    arms: [{ recorded: 'recorded.jsonl', name: 'all' }, { selected: 'all', keep: 'right', name: 'right' }, 'gold'],
    curation: { matching },
    evaluation: { maximumTokens: 2, likelihood: false, untouched: false, primed: false, fewShots: { examples: 0 } },
    engine: { threadCount: 1 },
  };
  await writeFile(join(root, `${matching}.yaml`), stringify(config));
  const { folder, summary } = await run(join(root, `${matching}.yaml`), { output: join(root, 'runs', matching), environment: {} });
  const rowsOf = async (arm: string): Promise<string> =>
    (await readFile(join(folder, 'students', `${arm}--lora--student--seed-0`, 'rows.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .map(({ exampleId, sampleIndex }) => `${exampleId}.${sampleIndex}`)
      .join(' ');
  return { summary, rows: { all: await rowsOf('all'), right: await rowsOf('right'), gold: await rowsOf('gold') } };
};

it('arms are trained on the questions that every arm has an answer left to', async () => {
  const { rows, summary } = await trained('questions');
  assert.deepEqual(rows, { all: 'q1.0 q1.1 q2.0 q2.1 q3.0 q3.1', right: 'q1.0 q2.0 q3.0', gold: 'q1.0 q2.0 q3.0' });
  assert.ok(summary.warnings.includes('collect--all: 6 kept answers are not trained on, since another arm has none to their questions.'));
  // A choice among an arm's answers is a planned comparison.
  assert.deepEqual(summary.protocol.compared, ['right']);
});

it('arms are trained on questions of their own where the config asks for it, and that is a warning', async () => {
  const { rows, summary } = await trained('none');
  assert.deepEqual(rows, {
    all: 'q1.0 q1.1 q2.0 q2.1 q3.0 q3.1 q4.0 q4.1 q5.0 q5.1 q6.0 q6.1',
    right: 'q1.0 q2.0 q3.0',
    gold: 'q1.0 q2.0 q3.0 q4.0 q5.0 q6.0',
  });
  assert.ok(summary.warnings.some((warning) => /Arms are trained on questions of their own \(all 6, right 3, gold 6\)/.test(warning)));
});
