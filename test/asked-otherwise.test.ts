import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { shotExamples, shotMessages } from '../src/methods/asked-otherwise.ts';
import { parseVariant, variantName } from '../src/run-folder/arm.ts';

const example = (id: string, question: string) => ({ id, question, solution: `It is ${id}.`, gold: id });

const story = (name: string) => `${name} has two apples and buys three more at the market on a sunny day in May, how many now`;
const train = ['Ann', 'Bob', 'Cid', 'Dan', 'Eva', 'Fay'].map((name) => example(name, story(name)));

describe('few shots', () => {
  it('are drawn of the training split by their seed, the same ones for every question', () => {
    const query = { train, test: [example('t', 'Something else altogether?')], count: 3 };
    const first = shotExamples({ ...query, seed: 0 });
    assert.equal(new Set(first.map(({ id }) => id)).size, 3);
    assert.deepEqual(shotExamples({ ...query, seed: 0 }), first);
    assert.ok([1, 2, 3].some((seed) => shotExamples({ ...query, seed })[0]?.id !== first[0]?.id));
  });

  it('share no thirteen words in a row with a test question', () => {
    // Ann's story but for the name: eighteen words in a row.
    const test = [example('t', story('Zoe').replace('May', 'June'))];
    assert.deepEqual(shotExamples({ train, test, count: 6, seed: 0 }), []);
    const one = [...train, example('far', 'A train leaves at noon. When does it arrive?')];
    assert.deepEqual(
      shotExamples({ train: one, test, count: 6, seed: 0 }).map(({ id }) => id),
      ['far'],
    );
  });

  it('stand before the question as turns of the chat, asked as the student is asked', () => {
    const [first, second] = train;
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual(shotMessages([first], second, 'A number.'), [
      { role: 'user', content: `${story('Ann')}\n\nA number.` },
      { role: 'assistant', content: 'It is Ann.' },
      { role: 'user', content: `${story('Bob')}\n\nA number.` },
    ]);
  });

  it('have a name that is read back', () => {
    for (const variant of [
      { kind: 'shots', count: 4 },
      { kind: 'primed', source: 'ground-truth' },
    ] as const)
      assert.deepEqual(parseVariant(variantName(variant)), variant);
    assert.equal(parseVariant('shots-many'), undefined);
  });
});
