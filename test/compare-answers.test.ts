import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { compareAnswers } from '../src/evaluation/compare-answers.ts';
import { readAnswerFile } from '../src/evaluation/read-answer-file.ts';
import { renderComparison } from '../src/report/render-comparison.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import type { Example } from '../src/tasks/task.ts';

const examples: Example[] = Array.from({ length: 40 }, (_, index) => ({
  id: `gsm8k-test-${index}`,
  question: `Question ${index}?`,
  solution: `#### ${index}`,
  gold: String(index),
}));

const questionHash = (index: number) => createHash('sha256').update(`Question ${index}?`).digest('hex');

/** As a run folder has it. */
const ours = (isRight: (index: number) => boolean, indices = examples.keys()) =>
  [...indices].map((index) => ({
    id: `gsm8k-test-${index}`,
    questionHash: questionHash(index),
    strict: isRight(index),
    flexible: true,
    followsFormat: isRight(index),
    finishReason: index < 4 ? 'length' : 'stop',
    tokenCount: 10,
  }));

/** As lm-evaluation-harness 0.4.13 logs it (evaluator.py): a line for each filter. */
const harness = (isRight: (index: number) => boolean) =>
  ['strict-match', 'flexible-extract'].flatMap((filter) =>
    examples.map(({ question, gold }, index) => ({
      doc_id: index,
      doc: { question, answer: `#### ${gold}` },
      target: `#### ${gold}`,
      arguments: [],
      resps: [[isRight(index) ? `#### ${gold}` : `It is ${gold}`]],
      filtered_resps: [filter === 'strict-match' && !isRight(index) ? '[invalid]' : gold],
      filter,
      metrics: ['exact_match'],
      exact_match: filter === 'strict-match' && !isRight(index) ? 0 : 1,
    })),
  );

const write = async (t: TestContext, rows: readonly object[]): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-compare-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'answers.jsonl');
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
};

const isEven = (index: number) => index % 2 === 0;
const isThird = (index: number) => index % 3 === 0;

describe('comparing answers from anywhere', () => {
  it('pairs the same questions and counts', async (t) => {
    const first = await readAnswerFile(await write(t, ours(isEven)));
    const second = await readAnswerFile(await write(t, ours(isThird).reverse()));
    const { scores, joinedBy, questionCount, first: side } = compareAnswers([first], [second]);
    assert.equal(joinedBy, 'id');
    assert.equal(questionCount, 40);
    // of 0…39: 20 even, 14 multiples of three, 7 of six
    const { pValue, midPValue, ...counts } = scores.strict.pair ?? assert.fail();
    assert.deepEqual(counts, { bothCount: 7, onlyFirstCount: 13, onlySecondCount: 7, neitherCount: 13 });
    assert.equal(scores.strict.difference.pValue, pValue);
    assert.ok(midPValue < pValue);
    assert.equal(scores.flexible.difference.difference, 0);
    assert.deepEqual(side.cutOff, { count: 4, total: 40 });
    assert.deepEqual(side.followsFormat, { count: 20, total: 40 });
    assert.deepEqual(side.rightInFormat, { count: 20, total: 20 });
    assert.equal(side.meanTokenCount, 10);
  });

  it('reads what lm-evaluation-harness logged, and joins it with ours by the question’s text', async (t) => {
    const theirs = await readAnswerFile(await write(t, harness(isThird)));
    assert.equal(theirs.format, 'lm-evaluation-harness');
    assert.equal(theirs.answers.filter(({ strict }) => strict).length, 14);
    assert.equal(theirs.answers.filter(({ flexible }) => flexible).length, 40);
    assert.equal(theirs.answers.filter(({ followsFormat }) => followsFormat).length, 14);
    const mine = await readAnswerFile(await write(t, ours(isEven)));
    const compared = compareAnswers([mine], [theirs]);
    assert.equal(compared.joinedBy, 'question text');
    assert.equal(compared.scores.strict.pair?.onlyFirstCount, 13);
  });

  it('scores plain answers by a task’s rules', async (t) => {
    const path = await write(
      t,
      examples.map(({ id, gold }, index) => ({ id, text: isEven(index) ? `#### ${gold}` : `It is ${gold}.` })),
    );
    await assert.rejects(readAnswerFile(path), /answers without scores/);
    const { answers } = await readAnswerFile(path, { task: gsm8k, examples });
    assert.equal(answers.filter(({ strict }) => strict).length, 20);
    assert.equal(answers.filter(({ flexible }) => flexible).length, 40);
  });

  it('takes several files a side for seeds, not for more questions', async (t) => {
    const file = await readAnswerFile(await write(t, ours(isEven)));
    const other = await readAnswerFile(await write(t, ours(isThird)));
    const one = compareAnswers([file], [other]).scores.strict.difference;
    const three = compareAnswers([file, file, file], [other, other, other]).scores.strict.difference;
    assert.equal(three.seedCount, 3);
    assert.equal(three.questionCount, 40);
    assert.ok(Math.abs(three.pValue - one.pValue) < 1e-12, 'copies are no evidence');
    assert.throws(() => compareAnswers([file, file], [other, other, other]), /2 files .* 3 on the other/);
  });

  it('does not compare different questions without being told', async (t) => {
    const first = await readAnswerFile(await write(t, ours(isEven)));
    const fewer = await readAnswerFile(await write(t, ours(isThird, Array.from({ length: 30 }, (_, index) => index).keys())));
    assert.throws(() => compareAnswers([first], [fewer]), /30 in common; .* has 10 that others lack/);
    assert.deepEqual(compareAnswers([first], [fewer], { onlyCommon: true }).questionCount, 30);
    const renamed = await readAnswerFile(
      await write(
        t,
        ours(isEven).map((answer) => ({ ...answer, questionHash: questionHash(99) })),
      ),
    );
    assert.throws(() => compareAnswers([first], [renamed]), /no question in common/, 'same ids, other texts');
  });

  it('refuses doubled questions and lines that are no answers', async (t) => {
    const twice = [...ours(isEven), ...ours(isEven, [3].values())];
    await assert.rejects(readAnswerFile(await write(t, twice)), /"gsm8k-test-3" was answered twice/);
    await assert.rejects(
      readAnswerFile(await write(t, [...ours(isEven), { id: 'x', strict: 1 }])),
      /answers\.jsonl:41: not a scored answer/,
    );
    await assert.rejects(
      readAnswerFile(await write(t, [...harness(isEven), ...harness(isEven).slice(0, 1)])),
      /question 0 stands there twice/,
    );
    const bleu = harness(isEven).map((sample) => ({ ...sample, metrics: ['bleu'], exact_match: undefined, bleu: 0.4 }));
    await assert.rejects(readAnswerFile(await write(t, bleu)), /no score of 0 or 1/);
    await assert.rejects(readAnswerFile(await write(t, [])), /holds no answers/);
  });

  it('reads a null result as one', async (t) => {
    const first = await readAnswerFile(await write(t, ours(isEven)));
    const second = await readAnswerFile(await write(t, ours(isThird)));
    const text = renderComparison(compareAnswers([first], [second]));
    assert.match(text, /^No difference was found between A and B in strictly right answers: A − B is \+15\.0 points \(95 % interval/);
    for (const line of text.split('\n').slice(5)) assert.ok(line.length <= 120);
    const clear = renderComparison(
      compareAnswers(
        [
          await readAnswerFile(
            await write(
              t,
              ours(() => true),
            ),
          ),
        ],
        [second],
      ),
    );
    assert.match(clear, /^A and B differ in strictly right answers: A − B is \+65\.0 points .* p <0\.001, over 40 questions\./);
  });
});
