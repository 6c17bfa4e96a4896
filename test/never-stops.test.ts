import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { endsRepeating, neverStops } from '../src/evaluation/never-stops.ts';
import type { ScoredAnswer } from '../src/evaluation/score-answers.ts';
import { summariseAnswers } from '../src/methods/evaluate-model.ts';
import { tasks } from '../src/tasks/index.ts';

const example = { id: 'q', question: '?', solution: '#### 7', gold: '7' };

/** As an evaluation would record it. */
const answer = (text: string, finishReason: 'stop' | 'length' = 'length') => {
  const { strictExtraction = null, followsFormat } = tasks.gsm8k.score(text, example);
  return { text, finishReason, strictExtraction, followsFormat };
};

describe('an answer never stops', () => {
  it('where it was cut off although its final answer stood there and more follows', () => {
    assert.ok(neverStops(answer('Three and four.\n#### 7\n\nQuestion: and another one')));
    assert.ok(!neverStops(answer('Three and four.\n#### 7\n\nGood luck!', 'stop')));
    // The limit fell on the very end of the answer: another token might have been the last.
    assert.ok(!neverStops(answer('We have 7 apples. Three and four.\n#### 7')));
    assert.ok(!neverStops(answer('First I count the apples, and then the')));
  });

  it('as the summary of a model counts it, where the ends of all answers are known', () => {
    const scored = (text: string, finishReason?: 'stop' | 'length'): ScoredAnswer => {
      const { strictExtraction = null, flexibleExtraction = null, ...scores } = tasks.gsm8k.score(text, example);
      const extractions = { strictExtraction, flexibleExtraction };
      return {
        id: text,
        questionHash: '',
        text,
        gold: '7',
        ...scores,
        ...extractions,
        ...(finishReason !== undefined && { finishReason }),
      };
    };
    const given = [scored('#### 7 and on', 'length'), scored('First I', 'length'), scored('#### 8', 'stop'), scored('#### 7', 'stop')];
    const { followsFormatCount, rightInFormatCount, truncatedCount, neverStopsCount } = summariseAnswers(given);
    assert.deepEqual([followsFormatCount, rightInFormatCount, truncatedCount, neverStopsCount], [3, 2, 2, 1]);
    assert.equal(summariseAnswers([...given, scored('#### 7')]).neverStopsCount, undefined);
  });

  it('where it was cut off while repeating itself', () => {
    assert.ok(neverStops(answer(`So: ${'and then we add one more. '.repeat(5)}and then`)));
    assert.ok(!neverStops(answer(`So: ${'and then we add one more. '.repeat(5)}`, 'stop')));
  });

  it('a text ends repeating when a stretch stands there three times, of 24 characters together at least', () => {
    assert.ok(endsRepeating('0'.repeat(24)));
    assert.ok(!endsRepeating('0'.repeat(23)));
    assert.ok(endsRepeating(`x${'abcdefgh'.repeat(3)}`));
    assert.ok(!endsRepeating(`x${'abcdefgh'.repeat(2)}abcdefg!`));
    assert.ok(endsRepeating('12 + 3 = 15.\n'.repeat(3)));
    assert.ok(!endsRepeating('12 + 3 = 15.\n12 + 4 = 16.\n12 + 5 = 17.\n'));
    assert.ok(!endsRepeating(''));
  });
});
