import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { curatedLines } from '../src/methods/curate-lines.ts';
import { curateQuestions } from '../src/methods/curate-questions.ts';
import { forgetInRun } from '../src/methods/forget.ts';
import { questionsOf } from '../src/methods/questions.ts';
import { collect } from '../src/methods/stages.ts';
import { trainingLinesOf } from '../src/methods/training-data.ts';
import type { CurationAction } from '../src/responses/curation-config.ts';
import { readResponses } from '../src/responses/response-store.ts';
import { hashOf } from '../src/run-folder/compare-configs.ts';
import { openRun } from '../src/run-folder/run-folder.ts';
import { parseTrainingLine } from '../src/text/training-lines.ts';

/** What a run and `retort train` leave out since the evaluation asks for it, or since it is there twice. */
const root = await mkdtemp(join(tmpdir(), 'retort-curation-'));
after(() => rm(root, { recursive: true, force: true }));

const asked = 'Natalia sold clips to 1,048 of her friends in April, and then she sold half as many clips in May. How many in all?';
const held = 'A farmer has 17 sheep in the north meadow and 25.00 sheep in the south meadow; how many sheep graze there?';
const clean = [
  'A baker bakes forty loaves in the morning and sells all but six of them before the shop closes at noon.',
  'Two trains leave the same station at nine and travel in opposite directions until a quarter past eleven in the rain.',
  'Seven gardeners plant eleven rose bushes each along the wall behind the old town hall of a small village.',
];
const rows = [
  { id: 'clean-0', question: clean[0], answer: '34' },
  // The test question's words in other case, punctuation and number format.
  { id: 'planted', question: 'In short – NATALIA SOLD “clips” to 1048.00 of her friends (in april) and then she wept.', answer: '1' },
  { id: 'clean-1', question: clean[1], answer: '2' },
  { id: 'again', question: `${clean[1]?.toUpperCase()}!`, answer: '2' },
  { id: 'clean-2', question: clean[2], answer: '77' },
  { id: 'recited', question: 'A farmer has 17 sheep in the north meadow and 25 sheep in the south meadow. Count them.', answer: '42' },
  // Followed by what `development` takes.
  { id: 'held', question: held, answer: '42' },
];
const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

before(async () => {
  await mkdir(join(root, 'student'));
  await writeFile(join(root, 'train.jsonl'), lines(rows));
  await writeFile(join(root, 'test.jsonl'), lines([{ id: 'test-0', question: asked, answer: '1572' }]));
});

const configOf = async (name: string, curation: object, change: object = {}): Promise<string> => {
  const config = {
    name,
    task: {
      name: 'jsonl',
      files: { train: 'train.jsonl', test: 'test.jsonl' },
      fields: { id: 'id' },
      train: { limit: 6 },
      development: { limit: 1 },
    },
    teacher: { kind: 'fake' },
    student: { model: 'student' },
    arms: ['none', 'teacher', 'gold'],
    curation,
    ...change,
  };
  await writeFile(join(root, `${name}.yaml`), stringify(config));
  return join(root, `${name}.yaml`);
};
const told: string[] = [];
const options = { workingFolder: root, offline: true, environment: {}, say: (line: string) => told.push(line) };
const idsOf = async (name: string, arm: string): Promise<string[]> => [
  ...new Set((await readResponses(join(root, 'runs', name, 'responses', arm))).map(({ exampleId }) => exampleId)),
];
const read = async (...path: string[]): Promise<Record<string, unknown>[]> =>
  (await readFile(join(root, ...path), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('a run', () => {
  it('leaves out, before anything is asked, what the evaluation asks for, lists it with both texts and says so', async () => {
    told.length = 0;
    const { summary } = await collect(await configOf('dropped', {}), options);
    for (const arm of ['none', 'teacher', 'gold']) {
      assert.deepEqual((await idsOf('dropped', arm)).sort(), ['again', 'clean-0', 'clean-1', 'clean-2'], arm);
    }
    const file = join('runs', 'dropped', 'curation', 'question-overlaps.jsonl');
    const found = await read(file);
    assert.deepEqual(
      found.map(({ id, evaluationId, shared }) => [id, evaluationId, shared]),
      [
        ['planted', 'test-0', 'natalia sold clips to 1048 of her friends in april and then she'],
        ['recited', 'held', 'a farmer has 17 sheep in the north meadow and 25 sheep in'],
      ],
    );
    assert.equal(found[0]?.['trainingText'], rows[1]?.question);
    assert.equal(found[0]?.['evaluationText'], asked);
    if (process.platform !== 'win32') assert.equal((await stat(join(root, file))).mode & 0o777, 0o600);
    const overlap =
      '2 of 6 training questions share 13 words in a row with an evaluation question and are left out: see curation/question-overlaps.jsonl.';
    const duplicate =
      '1 of 6 training questions say what an earlier one says (1 in the same words) and are kept: see curation/question-duplicates.jsonl.';
    for (const note of [overlap, duplicate]) {
      assert.ok(told.includes(note), told.join('\n'));
      assert.ok(summary.warnings.includes(`curate--questions: ${note}`), summary.warnings.join('\n'));
    }
    assert.equal((await read('runs', 'dropped', 'curation', 'question-duplicates.jsonl'))[0]?.['duplicateOf'], 'clean-1');
  });

  it('does as it is told: keeps and lists, drops what is there twice, looks for fewer words, does not look', async () => {
    await collect(await configOf('kept', { decontamination: { action: 'keep' }, duplicates: { action: 'drop' } }), options);
    assert.deepEqual((await idsOf('kept', 'none')).sort(), ['clean-0', 'clean-1', 'clean-2', 'planted', 'recited']);
    assert.equal((await read('runs', 'kept', 'curation', 'question-overlaps.jsonl')).length, 2);
    const off = { decontamination: { action: 'off' }, duplicates: { action: 'off' } };
    await collect(await configOf('off', off), options);
    assert.equal((await idsOf('off', 'none')).length, 6);
    assert.ok(!existsSync(join(root, 'runs', 'off', 'curation')));
    await collect(await configOf('longer', { decontamination: { wordCount: 14 } }), options);
    assert.deepEqual((await idsOf('longer', 'none')).sort(), ['again', 'clean-0', 'clean-1', 'clean-2', 'planted']);
  });

  it('refuses where it is told to, with the file that lists all, and asks nobody', async () => {
    const refuse = (what: string) => configOf(`refused-${what}`, { [what]: { action: 'refuse' } });
    await assert.rejects(collect(await refuse('decontamination'), options), (thrown) => {
      assert.ok(thrown instanceof UserError);
      assert.match(thrown.message, /2 of 6 training questions share 13 words.*"planted" and "test-0".*question-overlaps\.jsonl lists them/);
      return true;
    });
    assert.equal((await read('runs', 'refused-decontamination', 'curation', 'question-overlaps.jsonl')).length, 2);
    assert.ok(!existsSync(join(root, 'runs', 'refused-decontamination', 'responses')));
    await assert.rejects(
      collect(await refuse('duplicates'), options),
      /1 of 6 training questions say what an earlier one says, such as "again" and "clean-1"/,
    );
  });

  it('refuses the test set as training set, whatever is to be done with overlaps', async () => {
    const actions: CurationAction[] = ['drop', 'keep', 'refuse'];
    for (const action of actions) {
      const files = { train: 'test.jsonl', test: 'test.jsonl' };
      const config = await configOf(
        `same-${action}`,
        { decontamination: { action } },
        { task: { name: 'jsonl', files, fields: { id: 'id' } } },
      );
      await assert.rejects(collect(config, options), /1 of 1 training questions are evaluation questions.*Train on the training split/);
    }
  });

  it('forgets a test question by its findings, and a development question likewise', async () => {
    await collect(await configOf('forgotten', {}), options);
    const folder = join(root, 'runs', 'forgotten');
    for (const [id, left] of [
      ['test-0', ['recited']],
      ['held', []],
    ] as const) {
      const { split, removed } = await forgetInRun({ folder, id, students: 'mark' });
      assert.deepEqual([split, removed], ['test', { 'curation/question-overlaps.jsonl': 1 }]);
      const text = await readFile(join(folder, 'curation', 'question-overlaps.jsonl'), 'utf8');
      assert.deepEqual(
        text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).id])),
        left,
      );
    }
    // Neither is asked for any more: nothing overlaps with it.
    await collect(join(root, 'forgotten.yaml'), options);
    assert.deepEqual((await idsOf('forgotten', 'none')).sort(), ['again', 'clean-0', 'clean-1', 'clean-2', 'planted', 'recited']);
  });

  it('of a version that knew no curation goes on', async () => {
    const config = await configOf('older', {});
    await collect(config, options);
    const file = join(root, 'runs', 'older', 'config.resolved.json');
    const { curation: _, ...older } = JSON.parse(await readFile(file, 'utf8'));
    await writeFile(file, JSON.stringify(older));
    await (await openRun(join(root, 'runs', 'older'))).update((manifest) => ({ ...manifest, configHash: hashOf(older) }));
    await collect(config, options);
    assert.ok('curation' in JSON.parse(await readFile(file, 'utf8')));
    const other = await configOf('older', { decontamination: { wordCount: 8 } });
    await assert.rejects(collect(other, options), /curation\.decontamination\.wordCount: 13 in the run, 8 now/);
  });
});

describe('retort train', () => {
  const chat = (
    question: string,
    answer: string,
    system = 'Answer the question of the user in as few words as you can, and never make anything up.',
  ) => ({
    messages: [
      { role: 'system', content: system },
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });
  const training = [
    chat(clean[0] ?? '', '34'),
    chat(`Well: ${asked.toLowerCase()}`, '?'),
    chat('Tell me.', `Once ${asked}`),
    chat(clean[0] ?? '', '34'),
  ];

  it('learns nothing from rows that share words with the development or the evaluation data', async () => {
    await writeFile(join(root, 'evaluation.jsonl'), lines([{ question: asked }]));
    await writeFile(join(root, 'development.jsonl'), lines([chat(asked, '1572')]));
    const parsed = training.map((value, index) => parseTrainingLine(value, `train.jsonl:${index + 1}`));
    const names = {
      splits: { train: 'train', development: 'validation', evaluation: 'test' },
      fields: { messages: 'messages', prompt: 'prompt', completion: 'completion' },
      turns: 'all' as const,
    };
    const curation = {
      decontamination: { action: 'drop' as const, wordCount: 13 },
      duplicates: { action: 'drop' as const, similarity: 0.8 },
    };
    for (const name of ['evaluation', 'development'] as const) {
      const said: string[] = [];
      const output = join(root, `trained-${name}`);
      const data = { train: 'train.jsonl', ...names, [name]: join(root, `${name}.jsonl`) };
      const lines = { train: parsed, development: await trainingLinesOf('development', { data }, {}) };
      const left = await curatedLines(lines, { data, curation, output }, { say: (line) => said.push(line) });
      assert.deepEqual(
        left.map(({ where }) => where),
        ['train.jsonl:1'],
      );
      assert.deepEqual(
        (await read(`trained-${name}`, 'curation', 'overlaps.jsonl')).map(({ id, where, evaluationId }) => [id, where, evaluationId]),
        [
          ['train.jsonl:2', 'question', `${name}.jsonl:1`],
          ['train.jsonl:3', 'answer', `${name}.jsonl:1`],
        ],
      );
      assert.equal(said.length, 2);
    }
    await assert.rejects(
      curatedLines(
        { train: parsed.slice(1, 2), development: [] },
        { data: { train: '', ...names, evaluation: join(root, 'evaluation.jsonl') }, curation, output: root },
        {},
      ),
      /1 of 1 training questions are evaluation questions/,
    );
  });
});

describe('GSM8K', () => {
  const data = join(process.env['RETORT_DATA'] ?? '', 'gsm8k');
  const skip = process.env['RETORT_DATA'] !== undefined && existsSync(data) ? false : 'no RETORT_DATA with gsm8k';
  it('loses in a run what a plain search finds, and nothing else', { skip }, async () => {
    const split = { skip: 0 };
    const questions = await questionsOf({ name: 'gsm8k', folder: data, train: split, development: { limit: 0 }, test: split });
    const curation = {
      decontamination: { action: 'drop' as const, wordCount: 13 },
      duplicates: { action: 'keep' as const, similarity: 0.8 },
      matching: 'questions' as const,
    };
    const { train, curation: found } = await curateQuestions(questions, { curation });
    assert.equal(train.length, questions.train.length - found.dropped.size);
    // A search that knows nothing of `words`: letters and digits alone, blanks around, thousands' commas and zero cents out.
    const plain = (text: string): string =>
      ` ${text
        .toLowerCase()
        .replaceAll(/(?<=\d),(?=\d{3}\b)/g, '')
        .replaceAll(/(?<=\d)\.0+\b/g, '')
        .replaceAll(/[^\p{L}\p{M}\d.]+|(?<!\d)\.|\.(?!\d)/gu, ' ')
        .replaceAll(/(?<=\d)(?=\p{L})|(?<=\p{L})(?=\d)/gu, ' ')
        .replaceAll(/\s+/g, ' ')
        .trim()} `;
    const test = (await questions.openTest()).map(({ question }) => plain(question));
    const isShared = (question: string): boolean => {
      const list = plain(question).trim().split(' ');
      const runs = Array.from({ length: Math.max(0, list.length - 12) }, (_, start) => ` ${list.slice(start, start + 13).join(' ')} `);
      return runs.some((run) => whole.includes(run) && test.some((one) => one.includes(run)));
    };
    const whole = test.join('\n');
    for (const { id, question } of questions.train) if (found.dropped.has(id)) assert.ok(isShared(question), id);
    for (const { id, question } of questions.train.filter((_, index) => index % 50 === 0))
      assert.equal(found.dropped.has(id), isShared(question), id);
    console.log(
      `GSM8K: ${found.dropped.size} of ${questions.train.length} training questions are left out; ${found.duplicates.length} say what an earlier one says.`,
    );
  });
});
