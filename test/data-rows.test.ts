import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { UserError } from '../src/base/errors.ts';
import { readRows } from '../src/data/read-rows.ts';
import { splitFiles } from '../src/data/split-files.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { jsonlTask, readExamples } from '../src/tasks/index.ts';
import { readTrainingLines } from '../src/text/training-lines.ts';
import { parquetBytes } from './parquet-bytes.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'retort-data-'));
});
after(() => rm(folder, { recursive: true }));

const file = async (name: string, content: string | Buffer): Promise<string> => {
  const path = join(folder, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, content);
  return path;
};
const rows = async (source: string, columns?: readonly string[]) => {
  const found: { where: string; value: unknown }[] = [];
  for await (const { where, value } of readRows(source, { split: 'train', what: 'a test', columns })) {
    found.push({ where: where.replace(`${folder}/`, ''), value });
  }
  return found;
};
const values = async (source: string) => (await rows(source)).map(({ value }) => value);
const refusal = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    return error.message.replaceAll(`${folder}/`, '');
  }
  throw new assert.AssertionError({ message: 'nothing was refused' });
};

const nasty = [
  'plain',
  'a "quoted" word',
  'two\nlines',
  'a, comma; and a\ttab',
  ' spaces ',
  'Umlaut ä, 漢字, 🙂',
  "it's",
  '#### 42',
  '\uFEFFmark',
];

describe('the same rows come from every form', () => {
  const data = nasty.map((question, index) => ({ question, answer: `${index}` }));
  const cell = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const table = (separator: string, end: string) =>
    [['question', 'answer'], ...data.map((row) => [cell(row.question), row.answer])].map((cells) => cells.join(separator) + end).join('');
  const forms: readonly (readonly [name: string, content: string | Buffer])[] = [
    ['lines.jsonl', data.map((row) => `${JSON.stringify(row)}\n`).join('')],
    ['list.json', JSON.stringify(data)],
    ['pretty.json', `\uFEFF${JSON.stringify(data, undefined, 2)}\n`],
    ['lines.json', data.map((row) => `${JSON.stringify(row)}\n`).join('')],
    ['comma.csv', table(',', '\n')],
    ['excel.csv', `\uFEFF${table(',', '\r\n')}`],
    ['semicolon.csv', table(';', '\r\n')],
    ['open-end.csv', table(',', '\n').slice(0, -1)],
    ['tab.tsv', table('\t', '\n')],
    ['snappy.parquet', parquetBytes({ question: data.map(({ question }) => question), answer: data.map(({ answer }) => answer) })],
    ['groups.parquet', parquetBytes({ question: data.map(({ question }) => question), answer: data.map(({ answer }) => answer) }, 2)],
  ];
  for (const [name, content] of forms) it(name, async () => assert.deepEqual(await values(await file(name, content)), data));

  it('whatever texts a table holds, and wherever its bytes are cut', async () => {
    const text = fc.string({ unit: fc.constantFrom('a', '"', ',', ';', '\n', '\r\n', '\t', ' ', 'é', '🙂'), maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 20 }), async (pairs) => {
        const path = await file('any.csv', `x,y\n${pairs.map((pair) => `${pair.map(cell).join(',')}\n`).join('')}`);
        assert.deepEqual(
          await values(path),
          pairs.map(([x, y]) => ({ x: x === '' ? null : x, y: y === '' ? null : y })),
        );
      }),
      { numRuns: 60 },
    );
  });

  it('also of a table longer than what is read at a time', async () => {
    const long = Array.from({ length: 3000 }, (_, index) => ({ n: `${index}`, text: `line "${index}"\n${'ä'.repeat(index % 200)}` }));
    const path = await file('long.csv', `n,text\r\n${long.map(({ n, text }) => `${n},${cell(text)}\r\n`).join('')}`);
    assert.deepEqual(await values(path), long);
    assert.equal((await rows(path))[1234]?.where, `long.csv:${2 + 2 * 1234}`); // Two lines each.
  });
});

describe('a row that is refused is named', () => {
  it('by the line that it begins in, in tables', async () => {
    const named = async (content: string | Buffer) => refusal(rows(await file('bad.csv', content)));
    assert.match(await named('a,b\n"x\ny",1\n\n2\n'), /^bad\.csv:5: 1 cells, but the first line names 2 columns \(a, b\)/);
    assert.match(await named('a,b\n1,2\n3,"never closed\n4,5\n'), /^bad\.csv:\d+: Quote Not Closed.*written twice/);
    assert.match(await named('a,b\n1,"x" y\n'), /^bad\.csv:2: Invalid Closing Quote/);
    assert.match(await named('a,b,a\n1,2,3\n'), /^bad\.csv:1: the column "a" comes twice/);
    assert.match(await named(Buffer.from('a,b\n1,2\n3,caf\xe9\n', 'latin1')), /^bad\.csv:3: not UTF-8/);
    assert.match(await named(Buffer.from('\uFEFFa,b\n1,2\n', 'utf16le')), /^bad\.csv is UTF-16/);
  });

  it('by its item or row elsewhere, and columns by their names', async () => {
    const task = jsonlTask({ name: 'own', instruction: '', fields: { question: 'q', answer: 'a' }, scorer: { kind: 'exact' } });
    const named = async (name: string, content: string | Buffer) => refusal(readExamples(task, await file(name, content), 'train'));
    assert.match(await named('b.json', '[{"q":"x","a":"1"},{"q":"y"}]'), /^b\.json, item 2: no "a"/);
    assert.match(
      await named('b.parquet', parquetBytes({ q: ['x', 'y', 'z'], a: ['1', '2', null] }, 2)),
      /^b\.parquet, row 3: "a" is empty/,
    );
    assert.match(await named('c.parquet', parquetBytes({ q: ['x'], answer: ['1'] })), /^c\.parquet, row 1: no "a"\. Did you mean "q"\?/);
    assert.match(await named('b.csv', 'q,a\nx,1\ny,\n'), /^b\.csv:3: "a" is empty/);
    assert.match(await named('b.jsonl', Buffer.from('{"q":"caf\xe9","a":"1"}\n', 'latin1')), /^b\.jsonl:1: not UTF-8/);
    assert.match(await named('d.json', '[{"q":'), /^d\.json: expected a JSON list of objects: /);
    assert.match(await named('d.parquet', 'no such thing'), /^d\.parquet is no Parquet file/);
    const whole = parquetBytes({ q: ['x'.repeat(100)], a: ['1'] });
    assert.match(
      await named('e.parquet', Buffer.concat([whole.subarray(0, 40), Buffer.alloc(30), whole.subarray(70)])),
      /^e\.parquet: rows 1 to 1 cannot be read/,
    );
    assert.match(await named('f.parquet', whole.subarray(0, -20)), /^f\.parquet: its footer cannot be read/);
    assert.match(await named('g.jsonl', Buffer.from([0x1f, 0x8b, 8, 0])), /^g\.jsonl is compressed/);
  });

  it('after the rows before it, and not at all where it is not reached', async () => {
    const path = await file('late.csv', 'question,answer\nq,#### 1\nr,#### 2\nbad,"#### 3\n');
    const [first] = await readExamples(gsm8k, path, 'train', { limit: 1 });
    assert.equal(first?.gold, '1');
    const seen: unknown[] = [];
    await assert.rejects(async () => {
      for await (const { value } of readRows(path, { split: 'train', what: 'a test' })) seen.push(value);
    });
    assert.equal(seen.length, 2);
  });
});

describe('a Parquet file', () => {
  it('gives lists and structs, whole numbers of 64 bits and times as JSON would', async () => {
    const messages = [
      [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello.' },
      ],
      [
        { role: 'user', content: 'Again' },
        { role: 'assistant', content: 'Yes.' },
      ],
    ];
    const path = await file(
      'chat.parquet',
      Buffer.from(
        parquetWriteBuffer({
          columnData: [
            { name: 'messages', data: messages },
            { name: 'count', data: [3n, 2n ** 60n] },
            { name: 'at', data: [new Date(0), new Date(1e12)] },
          ],
          schema: [
            { name: 'root', num_children: 3 },
            { name: 'messages', num_children: 1, converted_type: 'LIST', repetition_type: 'OPTIONAL' },
            { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
            { name: 'element', num_children: 2, repetition_type: 'OPTIONAL' },
            { name: 'role', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
            { name: 'content', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
            { name: 'count', type: 'INT64', repetition_type: 'OPTIONAL' },
            { name: 'at', type: 'INT64', converted_type: 'TIMESTAMP_MILLIS', repetition_type: 'OPTIONAL' },
          ],
        }),
      ),
    );
    assert.deepEqual(await values(path), [
      { messages: messages[0], count: 3, at: '1970-01-01T00:00:00.000Z' },
      { messages: messages[1], count: '1152921504606846976', at: '2001-09-09T01:46:40.000Z' },
    ]);
    assert.deepEqual(
      (await readTrainingLines(path)).map((line) => line.kind === 'conversation' && line.messages),
      messages,
    );
  });
});

describe('training rows', () => {
  it('come from tables, under the names that their columns have', async () => {
    const path = await file('pairs.csv', 'id,prompt,Q,A\n1,ignored,one,two\n2,ignored,three,four\n');
    const fields = { messages: 'messages', prompt: 'Q', completion: 'A' };
    assert.deepEqual(
      (await readTrainingLines(path, { fields })).map((line) => line.kind === 'completion' && [line.prompt, line.completion]),
      [
        ['one', 'two'],
        ['three', 'four'],
      ],
    );
    assert.match(await refusal(readTrainingLines(path, { fields: { ...fields, completion: 'B' } })), /^pairs\.csv:2: .*completion/);
    assert.match(await refusal(readTrainingLines(await file('hole.csv', 'prompt,completion\na,b\nc,\n'))), /^hole\.csv:3: .*completion/);
  });
});

describe('the files of a split', () => {
  const of = (paths: readonly string[], split: string, options: { path?: string; readme?: string } = {}) =>
    splitFiles({ name: 'hub:o/n', paths, ...(options.readme !== undefined && { readme: options.readme }) }, { split, path: options.path });

  it('are found by their names, at the top, in data/, in parts, in a folder of the name', () => {
    assert.deepEqual(of(['train.csv', 'train-old.csv', 'test.csv'], 'train'), ['train.csv']);
    assert.deepEqual(of(['data/test-00001-of-00002.parquet', 'data/test-00000-of-00002.parquet'], 'test'), [
      'data/test-00000-of-00002.parquet',
      'data/test-00001-of-00002.parquet',
    ]);
    assert.deepEqual(of(['main/train/0000.parquet', 'main/train/0001.parquet'], 'train', { path: 'main' }), [
      'main/train/0000.parquet',
      'main/train/0001.parquet',
    ]);
    assert.deepEqual(of(['a/x.jsonl', 'b/x.jsonl'], 'train', { path: 'b/x.jsonl' }), ['b/x.jsonl']);
    assert.deepEqual(of(['a/x1.jsonl', 'a/x2.jsonl', 'a/y.jsonl'], 'train', { path: 'a/x*.jsonl' }), ['a/x1.jsonl', 'a/x2.jsonl']);
  });

  it('are those that the README declares', () => {
    const readme = [
      '---',
      'configs:',
      '- config_name: main',
      '  data_files:',
      '  - split: train',
      '    path: main/train-*',
      '  - {split: test, path: [main/test-*]}',
      '- config_name: socratic',
      '  data_files: [{split: train, path: socratic/*}]',
      '---',
    ].join('\n');
    const paths = ['main/train-00000-of-00001.parquet', 'main/test-00000-of-00001.parquet', 'socratic/a.parquet', 'README.md'];
    assert.deepEqual(of(paths, 'test', { readme, path: 'main' }), ['main/test-00000-of-00001.parquet']);
    assert.deepEqual(of(paths, 'train', { readme, path: 'socratic' }), ['socratic/a.parquet']);
    assert.throws(() => of(paths, 'train', { readme }), /has the subsets main, socratic\. Name one, as hub:o\/n\/main/);
    assert.deepEqual(of(paths, 'train', { readme: readme.replace('name: main', 'name: main\n  default: true') }), [
      'main/train-00000-of-00001.parquet',
    ]);
    assert.throws(() => of(paths, 'validation', { readme, path: 'main' }), /no split "validation"\. It has: train, test/);
  });

  it('are never guessed', () => {
    assert.throws(() => of(['train.csv', 'train.jsonl'], 'train'), /more than once: train\.csv, train\.jsonl/);
    assert.throws(() => of(['dev.csv'], 'validation'), /no validation\.jsonl.*It has: dev\.csv/);
    assert.throws(() => of(['data/train-00000-of-00003.parquet'], 'train'), /has 1 of the 3 files/);
  });

  it('are found in folders on the disk', async () => {
    await file('cloned/data/train-00000-of-00002.parquet', parquetBytes({ q: ['1', '2'] }));
    await file('cloned/data/train-00001-of-00002.parquet', parquetBytes({ q: ['3'] }));
    assert.deepEqual(
      (await rows(join(folder, 'cloned'))).map(({ where, value }) => [where, value]),
      [
        ['cloned/data/train-00000-of-00002.parquet, row 1', { q: '1' }],
        ['cloned/data/train-00000-of-00002.parquet, row 2', { q: '2' }],
        ['cloned/data/train-00001-of-00002.parquet, row 1', { q: '3' }],
      ],
    );
  });
});
