import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import { readExamples, tasks } from '../src/tasks/index.ts';
import { scoreNumber } from '../src/tasks/number-scores.ts';
import type { Example } from '../src/tasks/task.ts';

const scored = z.tuple([z.string(), z.union([z.literal(0), z.literal(1)])]);
const harness = z
  .object({
    versions: z.object({ 'lm-eval': z.literal('0.4.13') }),
    rows: z.array(z.object({ answer: z.string(), gold: z.string(), 'strict-match': scored, 'flexible-extract': scored })),
  })
  .parse(JSON.parse(readFileSync(join(import.meta.dirname, 'golden', 'lm-eval-scores.json'), 'utf8')));

describe('the scorer of numbers', () => {
  it('reads and judges every strange answer as lm-evaluation-harness 0.4.13 does (test/golden/lm_eval_scores.py)', () => {
    const answers = new Set(harness.rows.map(({ answer }) => answer));
    assert.ok(answers.size >= 300, `${answers.size} different answers`);
    for (const row of harness.rows) {
      const ours = scoreNumber(row.answer, row.gold);
      assert.deepEqual(
        [ours.strictExtraction ?? '[invalid]', ours.strict, ours.flexibleExtraction ?? '[invalid]', ours.flexible],
        [row['strict-match'][0], row['strict-match'][1] === 1, row['flexible-extract'][0], row['flexible-extract'][1] === 1],
        JSON.stringify(row),
      );
      assert.equal(ours.followsFormat, row['strict-match'][0] !== '[invalid]', row.answer);
    }
  });

  it('was tried on right and wrong answers of both rules', () => {
    for (const rule of ['strict-match', 'flexible-extract'] as const) {
      const right = harness.rows.filter((row) => row[rule][1] === 1).length;
      assert.ok(right >= 50 && harness.rows.length - right >= 50, `${rule}: ${right} of ${harness.rows.length}`);
    }
  });
});

const place = { split: 'train', index: 12, where: 'train.jsonl:13' };
const example = (answer: string): Example => gsm8k.parseExample({ question: ' How many? ', answer }, place);

describe('GSM8K', () => {
  it('takes the calculator’s annotations out of solutions, and nothing else', () => {
    assert.deepEqual(example('He sold 48/2 = <<48/2=24>>24 clips, <b>so</b> 1 < 2.\n2 > 1\n#### 1,024'), {
      id: 'gsm8k-train-12',
      question: 'How many?',
      solution: 'He sold 48/2 = 24 clips, <b>so</b> 1 < 2.\n2 > 1\n#### 1,024',
      gold: '1,024',
    });
  });

  it('scores its own solutions 1 and an empty answer 0', () => {
    const { solution } = example('2 + 3 = 5\n#### 5');
    const right = gsm8k.score(solution, example('2 + 3 = 5\n#### 5'));
    assert.deepEqual([right.strict, right.flexible, right.followsFormat], [true, true, true]);
    const empty = gsm8k.score('', example('2 + 3 = 5\n#### 5'));
    assert.deepEqual([empty.strict, empty.flexible, empty.followsFormat], [false, false, false]);
  });

  it('shows in its instruction the very form that it scores', () => {
    assert.equal(gsm8k.score(gsm8k.instruction, { ...example('#### 42') }).strict, true);
  });

  it('refuses lines without question or answer, and names the line', () => {
    for (const value of [
      null,
      [],
      'text',
      {},
      { question: 'x' },
      { question: '', answer: '#### 1' },
      { question: 'x', answer: 'no number' },
      { question: 'x', answer: '#### ' },
      { question: 'x', answer: 3 },
    ]) {
      assert.throws(
        () => gsm8k.parseExample(value, place),
        (error) => error instanceof UserError && error.message.startsWith('train.jsonl:13: '),
        JSON.stringify(value),
      );
    }
    assert.throws(() => gsm8k.parseExample({ question: 'x', answr: '#### 1' }, place), /no "answer"\. Did you mean "answr"\?/);
  });

  it('reads all 7,473 and 1,319 rows, each of whose solutions is right by both rules', async (test) => {
    const data = process.env['RETORT_DATA'];
    if (data === undefined) return test.skip('RETORT_DATA is not set: no GSM8K');
    // Counts, commas and negative numbers as research/response-priming.md has them, from the files themselves.
    for (const [split, count, commas, negative] of [
      ['train', 7473, 79, 3],
      ['test', 1319, 14, 2],
    ] as const) {
      const examples = await readExamples(tasks.gsm8k, join(data, 'gsm8k'), split);
      assert.equal(examples.length, count);
      assert.equal(examples.filter(({ gold }) => gold.includes(',')).length, commas);
      assert.equal(examples.filter(({ gold }) => gold.startsWith('-')).length, negative);
      assert.equal(examples.filter(({ solution }) => solution.includes('<<')).length, 0);
      assert.equal(new Set(examples.map(({ id }) => id)).size, count);
      for (const each of examples) {
        const score = gsm8k.score(each.solution, each);
        assert.ok(score.strict && score.flexible, each.id);
      }
    }
  });
});
