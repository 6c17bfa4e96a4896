import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { generateWordProblems, tasks, type WordProblem, type WordProblemPart } from '../src/tasks/index.ts';
import { calculationText, partOf } from '../src/tasks/word-problem-generator.ts';
import { commonQuestions, endings, happenings, largestNumber, openings } from '../src/tasks/word-problem-stories.ts';
import { wordProblems } from '../src/tasks/word-problems.ts';
import { calculationsIn } from './calculations-in.ts';

const parts: readonly WordProblemPart[] = ['pretrain', 'train', 'test'];
const sample = (part: WordProblemPart, seed = 1, count = 300): WordProblem[] => generateWordProblems({ part, seed, count });
const everyPart = parts.flatMap((part) => sample(part));

describe('generated word problems', () => {
  it('are the same for the same seed, others for another, and more of them do not change the first', () => {
    assert.deepEqual(sample('test', 7, 20), sample('test', 7, 60).slice(0, 20));
    const others = new Set(sample('test', 8, 60).map(({ question }) => question));
    assert.ok(sample('test', 7, 60).filter(({ question }) => others.has(question)).length < 5);
  });

  it('are all different, with ids of their own', () => {
    assert.equal(new Set(everyPart.map(({ question }) => question)).size, everyPart.length);
    assert.equal(new Set(everyPart.map(({ id }) => id)).size, everyPart.length);
  });

  it('never share their calculations between parts, whatever the seeds', () => {
    const calculations = (part: WordProblemPart, seed: number) =>
      sample(part, seed).map(({ steps }) => steps.map(calculationText).join(' '));
    const taught = new Set([...calculations('pretrain', 1), ...calculations('pretrain', 2)]);
    const asked = new Set([...calculations('train', 1), ...calculations('train', 3)]);
    const tested = [...calculations('test', 1), ...calculations('test', 4)];
    assert.ok(tested.every((text) => !taught.has(text) && !asked.has(text)));
    assert.ok([...asked].every((text) => !taught.has(text)));
    assert.deepEqual(
      everyPart.map(({ steps }) => partOf(steps)),
      everyPart.map(({ part }) => part),
    );
  });

  it('have solutions whose calculations are right, go on from the question, and end in the answer', () => {
    for (const { question, solution, gold } of everyPart) {
      const calculations = calculationsIn(solution);
      assert.ok(calculations.length >= 2 && calculations.length <= 3, solution);
      // Doubling is told in words; every other number stands in the question or was calculated before.
      const known = new Set([...(question.match(/\d+/g) ?? []).map(Number), 2]);
      for (const { left, right, stated, evaluated } of calculations) {
        assert.equal(stated, evaluated, solution);
        assert.ok(known.has(left) && known.has(right), `${question}\n${solution}`);
        assert.ok(Number.isInteger(stated) && stated >= 1 && stated <= largestNumber, solution);
        known.add(stated);
      }
      assert.equal(String(calculations.at(-1)?.stated), gold);
      assert.match(solution, new RegExp(`\\n#### ${gold}$`));
    }
  });

  it('tell every event in each of its wordings, with no brace left open', () => {
    const text = sample('pretrain', 3, 3000).flatMap(({ sentences, finalQuestion }) => [...sentences, finalQuestion]);
    assert.deepEqual(
      text.filter((sentence) => /[{}]/.test(sentence)),
      [],
    );
    const events = [...openings, ...happenings, ...endings];
    for (const wording of [
      ...events.flatMap(({ wordings }) => wordings),
      ...commonQuestions,
      ...endings.flatMap(({ questions }) => questions ?? []),
    ]) {
      const pattern = new RegExp(
        `^${wording
          .replace(/[?.]/g, '\\$&')
          .replace(/\{[nm]\}/g, '\\d+')
          .replace(/\{\w+\}/g, '\\w+')}$`,
      );
      assert.ok(
        text.some((sentence) => pattern.test(sentence)),
        wording,
      );
    }
  });

  it('keep to the number of calculations asked for', () => {
    const single = generateWordProblems({ part: 'pretrain', seed: 1, count: 50, fewestSteps: 1, mostSteps: 1 });
    assert.ok(single.every(({ steps }) => steps.length === 1));
  });
});

describe('the task of word problems', () => {
  it('stands in the table of tasks', () => assert.equal(tasks['word-problems'], wordProblems));

  it('scores a right answer 1, an empty or wrong one 0', () => {
    for (const problem of sample('test', 2, 50)) {
      const right = wordProblems.score(problem.solution, problem);
      assert.deepEqual([right.strict, right.flexible, right.followsFormat], [true, true, true]);
      const empty = wordProblems.score('', problem);
      assert.deepEqual([empty.strict, empty.flexible, empty.followsFormat], [false, false, false]);
      assert.equal(wordProblems.score(`#### ${Number(problem.gold) + 1}`, problem).strict, false);
      const unmarked = wordProblems.score(`The answer is ${problem.gold}`, problem);
      assert.deepEqual([unmarked.strict, unmarked.flexible, unmarked.followsFormat], [false, true, false]);
    }
  });

  it('reads back what was written as JSON lines', () => {
    const [problem] = sample('train', 2, 1);
    assert.ok(problem);
    const { id, question, solution, gold } = problem;
    const line = JSON.parse(JSON.stringify({ id, question, solution, gold }));
    assert.deepEqual(wordProblems.parseExample(line, { split: 'train', index: 0, where: 'file:1' }), { id, question, solution, gold });
  });
});
