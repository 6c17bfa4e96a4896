import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { type JsonlTaskOptions, jsonlTask, readExamples, tasks } from '../src/tasks/index.ts';

const options: JsonlTaskOptions = {
  name: 'capitals',
  instruction: 'One word.',
  fields: { question: 'ask', answer: 'reply' },
  scorer: { kind: 'exact' },
};
const place = { split: 'test', index: 3, where: 'capitals.jsonl:4' };
const judged = (scorer: JsonlTaskOptions['scorer'], answer: string, gold: string): [boolean, boolean, boolean] => {
  const task = jsonlTask({ ...options, scorer });
  const { strict, flexible, followsFormat } = task.score(answer, { id: 'x', question: 'q', solution: gold, gold });
  return [strict, flexible, followsFormat];
};

describe('a task of one’s own', () => {
  it('reads the fields that it is told', () => {
    const line = { ask: ' Capital of Portugal? ', reply: 'Lisbon\n', why: 'It lies on the Tagus: Lisbon', key: 'pt' };
    assert.deepEqual(jsonlTask(options).parseExample(line, place), {
      id: 'capitals-test-3',
      question: 'Capital of Portugal?',
      solution: 'Lisbon',
      gold: 'Lisbon',
    });
    const fields = { ...options.fields, solution: 'why', id: 'key' };
    assert.deepEqual(jsonlTask({ ...options, fields }).parseExample(line, place), {
      id: 'pt',
      question: 'Capital of Portugal?',
      solution: 'It lies on the Tagus: Lisbon',
      gold: 'Lisbon',
    });
  });

  it('takes a number for its digits, and refuses an empty, missing or wrong field by name', () => {
    assert.equal(jsonlTask(options).parseExample({ ask: 'x', reply: 42 }, place).gold, '42');
    for (const reply of ['', '  ', null, [], {}, true, undefined]) {
      assert.throws(
        () => jsonlTask(options).parseExample({ ask: 'x', reply }, place),
        (error) => error instanceof UserError && /^capitals\.jsonl:4: .*"reply"/.test(error.message),
      );
    }
  });

  it('scores exactly, or by what a person would let pass', () => {
    assert.deepEqual(judged({ kind: 'exact' }, ' Lisbon\n', 'Lisbon'), [true, true, true]);
    assert.deepEqual(judged({ kind: 'exact' }, 'lisbon.', 'Lisbon'), [false, true, true]);
    assert.deepEqual(judged({ kind: 'exact' }, 'New  York', 'New York'), [false, true, true]);
    assert.deepEqual(judged({ kind: 'exact' }, 'cafe\u0301', 'caf\u00e9'), [false, true, true]);
    assert.deepEqual(judged({ kind: 'exact' }, 'It is Lisbon', 'Lisbon'), [false, false, true]);
    assert.deepEqual(judged({ kind: 'exact' }, '', 'Lisbon'), [false, false, false]);
  });

  it('scores by a pattern: the first match strictly, the last one loosely', () => {
    const scorer = { kind: 'regex', pattern: 'answer: (\\w+)' } as const;
    assert.deepEqual(judged(scorer, 'answer: Lisbon', 'Lisbon'), [true, true, true]);
    assert.deepEqual(judged(scorer, 'answer: Porto, no, answer: LISBON', 'Lisbon'), [false, true, true]);
    assert.deepEqual(judged(scorer, 'Lisbon', 'Lisbon'), [false, false, false]);
    assert.throws(() => judged({ kind: 'regex', pattern: '(' }, '', ''), UserError);
  });

  it('scores numbers as GSM8K does', () => {
    assert.deepEqual(judged({ kind: 'number' }, 'so #### 5 or 6', '5'), [true, false, true]);
    assert.deepEqual(judged({ kind: 'number' }, 'so 5', '5'), [false, true, false]);
  });
});

describe('reading examples', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'retort-tasks-'));
  });
  after(() => rm(folder, { recursive: true }));

  const lines = (...values: unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');
  const row = (number: number) => ({ question: `q${number}`, answer: `a\n#### ${number}` });

  it('takes a folder’s split or a file, skips and limits, and keeps ids', async () => {
    await writeFile(join(folder, 'train.jsonl'), lines(row(1), row(2), row(3), row(4)));
    const read = async (path: string, options?: { skip?: number; limit?: number }) =>
      (await readExamples(tasks.gsm8k, path, 'train', options)).map(({ id, gold }) => `${id}=${gold}`);
    assert.deepEqual(await read(folder), ['gsm8k-train-0=1', 'gsm8k-train-1=2', 'gsm8k-train-2=3', 'gsm8k-train-3=4']);
    assert.deepEqual(await read(join(folder, 'train.jsonl'), { skip: 1, limit: 2 }), ['gsm8k-train-1=2', 'gsm8k-train-2=3']);
    await assert.rejects(read(folder, { skip: 4 }), /has 4 examples, and 4 are to be skipped/);
  });

  it('names the file and line of what it refuses', async () => {
    const file = join(folder, 'bad.jsonl');
    const refusal = async (content: string): Promise<string> => {
      await writeFile(file, content);
      try {
        await readExamples(tasks.gsm8k, file, 'train');
      } catch (error) {
        assert.ok(error instanceof UserError, String(error));
        return error.message.replace(file, 'FILE');
      }
      throw new assert.AssertionError({ message: 'nothing was refused' });
    };
    assert.match(await refusal(lines(row(1), { question: 'q2' })), /^FILE:2: no "answer"/);
    assert.match(
      await refusal(lines(row(1), { question: 'q2', answer: 'no number' })),
      /^FILE:2: the answer must end in a line "#### number"/,
    );
    assert.match(await refusal(`${lines(row(1))}\n{"question":\n`), /^FILE:3: /);
    assert.match(await refusal(`${lines(row(1))}{"question"`), /^FILE:2: the last line is not whole JSON/);
    assert.match(await refusal(''), /FILE is empty/);
    await assert.rejects(readExamples(tasks.gsm8k, folder, 'validation'), /has no validation\.jsonl/);
    await assert.rejects(readExamples(tasks.gsm8k, join(folder, 'nowhere'), 'train'), /No data for task "gsm8k"/);
  });

  it('refuses an id that comes twice', async () => {
    const file = join(folder, 'ids.jsonl');
    await writeFile(file, lines({ ask: 'a', reply: 'b', id: 'x' }, { ask: 'c', reply: 'd', id: 'x' }));
    const task = jsonlTask({ ...options, fields: { ...options.fields, id: 'id' } });
    await assert.rejects(readExamples(task, file, 'train'), /ids\.jsonl:2: the id "x" was used at .*ids\.jsonl:1 already/);
  });
});
