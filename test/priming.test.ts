import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sha256 } from '../src/base/folders.ts';
import { primedMessages, studentMessages } from '../src/priming/primed-messages.ts';
import { strategies } from '../src/priming/strategies.ts';
import type { PrimingStrategy } from '../src/priming/strategy.ts';

const example = { question: 'Ann has 2 hats and buys 3. How many?', solution: '2 + 3 = 5, which costs $& and $1 {{solution}}\n#### 5' };
const instruction = 'End with a line "#### number".';
const own: PrimingStrategy = { name: 'own', version: 1, placement: 'system', text: 'Be brief.', seesSolution: false };
const every = [...Object.values(strategies), own, { ...own, placement: 'before' as const }, { ...own, placement: 'after' as const }];

const occurrences = (text: string, part: string): number => text.split(part).length - 1;

describe('every strategy', () => {
  for (const strategy of every) {
    it(`${strategy.name} (${strategy.placement}) asks what the student is asked, whole and once, and adds nothing but its text`, () => {
      const [unprimed] = studentMessages(example, instruction);
      const messages = primedMessages(strategy, example, instruction);
      const whole = messages.map((message) => message.content).join('\n\n');
      assert.equal(messages.filter((message) => message.role === 'user').length, 1);
      assert.equal(occurrences(whole, unprimed?.content ?? ''), 1);
      const remainder = whole.replace(unprimed?.content ?? '', () => '').trim();
      assert.equal(remainder, strategy.text.split('{{solution}}').join(example.solution));
    });

    it(`${strategy.name} (${strategy.placement}) shows the gold solution only if its row says so`, () => {
      const text = JSON.stringify(primedMessages(strategy, example, instruction));
      assert.equal(text.includes('which costs'), strategy.seesSolution);
    });
  }

  it('has a text that does not change under its version', () => {
    // Taken from the rows when they were written: answers in a store are known by name and version.
    const digests = Object.values(strategies).map(({ name, version, placement, text }) => [
      name,
      version,
      sha256(placement + text).slice(0, 12),
    ]);
    assert.deepEqual(digests, [
      ['none', 1, '6db7d803e74f'],
      ['teacher', 1, '9b1850722f8e'],
      ['ground-truth', 1, '4a344f72693d'],
      ['confidence', 1, '7b32b7aaf14d'],
      ['rationale', 1, '6f5186d1dd2a'],
    ]);
  });

  it('is known by the name in its row', () => {
    for (const [name, strategy] of Object.entries(strategies)) assert.equal(strategy.name, name);
  });

  it('that comes with the project keeps out of the system message, where it would replace a default one', () => {
    for (const strategy of Object.values(strategies))
      assert.ok(primedMessages(strategy, example, instruction).every((message) => message.role === 'user'));
  });
});

describe('the student', () => {
  it('sees question and instruction, and nothing else', () => {
    assert.deepEqual(studentMessages(example, instruction), [{ role: 'user', content: `${example.question}\n\n${instruction}` }]);
    assert.deepEqual(studentMessages(example, ''), [{ role: 'user', content: example.question }]);
  });

  it('is asked exactly as the unprimed teacher is', () => {
    assert.deepEqual(primedMessages(strategies['none'] as PrimingStrategy, example, instruction), studentMessages(example, instruction));
  });
});

describe('placement', () => {
  it('is before, after, or a system message', () => {
    const asked = (placement: PrimingStrategy['placement']) => primedMessages({ ...own, placement }, { question: 'Q', solution: '' }, 'I');
    assert.deepEqual(asked('before'), [{ role: 'user', content: 'Be brief.\n\nQ\n\nI' }]);
    assert.deepEqual(asked('after'), [{ role: 'user', content: 'Q\n\nI\n\nBe brief.' }]);
    assert.deepEqual(asked('system'), [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Q\n\nI' },
    ]);
  });
});
