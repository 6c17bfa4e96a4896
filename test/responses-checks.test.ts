import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readJsonLines } from '../src/base/json-lines.ts';
import { checkNotTheSameSet, findContamination } from '../src/responses/decontaminate.ts';
import { findDuplicates } from '../src/responses/duplicates.ts';
import type { Response } from '../src/responses/response.ts';
import { type KeepPolicy, keepPolicies, selectResponses, yieldOf } from '../src/responses/select.ts';
import { goldResponses } from '../src/responses/sources.ts';
import { type Verification, verifyByTask } from '../src/responses/verify.ts';
import { wordGrams, words } from '../src/responses/words.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';

describe('words', () => {
  it('do not depend on case, punctuation, encoding or the way numbers are written', () => {
    const plain = words('Janet s 1000 eggs cost 16 and 2.5 more cafe\u0301');
    assert.deepEqual(words('JANET’S 1,000 eggs cost $16.00, and 2.5 “more” caf\u00e9!'), plain);
    assert.deepEqual(plain, ['janet', 's', '1000', 'eggs', 'cost', '16', 'and', '2.5', 'more', 'caf\u00e9']);
    assert.deepEqual(words('12,345,678 and 1,2 and ٣'), ['12345678', 'and', '1', '2', 'and']);
  });

  it('come in runs of a length, or whole', () => {
    assert.deepEqual(wordGrams(['a', 'b', 'c'], 2), ['a b', 'b c']);
    assert.deepEqual(wordGrams(['a', 'b'], 5), ['a b']);
    assert.deepEqual(wordGrams([], 5), []);
  });
});

describe('contamination', () => {
  const evaluation = [
    {
      id: 'test/0',
      question: 'Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many in all?',
    },
    { id: 'test/1', question: 'What is 12 times 12?' },
  ];
  const clean = {
    id: 'train/clean',
    question: 'A baker bakes forty loaves in the morning and sells all but six of them before the shop closes at noon.',
    answer: 'Thirty-four loaves are sold.',
  };

  it('is found through changed case, punctuation and number formats, in questions and in answers, with both texts', () => {
    const shared = 'natalia sold CLIPS to 48.0 of her friends -- in April; and then she';
    const found = findContamination(
      [
        clean,
        { id: 'train/1', question: `In short: ${shared}`, answer: '' },
        { id: 'train/2', question: 'Tell me a story.', answer: `Once, ${shared} wept.` },
      ],
      evaluation,
    );
    assert.deepEqual(
      found.map(({ id, evaluationId, where }) => [id, evaluationId, where]),
      [
        ['train/1', 'test/0', 'question'],
        ['train/2', 'test/0', 'answer'],
      ],
    );
    assert.equal(found[0]?.shared, 'natalia sold clips to 48 of her friends in april and then she');
    assert.match(found[0]?.trainingText ?? '', /In short/);
    assert.match(found[0]?.evaluationText ?? '', /How many in all/);
  });

  it('wants thirteen words in a row, or as many as the config says', () => {
    const twelve = { id: 'x', question: 'natalia sold clips to 48 of her friends in april and then nothing', answer: '' };
    assert.equal(findContamination([twelve], evaluation).length, 0);
    assert.equal(findContamination([twelve], evaluation, { wordCount: 12 }).length, 1);
  });

  it('of a short question counts when it stands there whole', () => {
    assert.equal(findContamination([{ id: 'x', question: 'Quick: what is 12 times 12?', answer: '' }], evaluation).length, 1);
    assert.equal(findContamination([{ id: 'x', question: 'What is 12 times 13?', answer: '' }], evaluation).length, 0);
  });

  it('of half the training set or more is refused', () => {
    const rows = evaluation.map(({ id, question }) => ({ id: `train-${id}`, question, answer: '' }));
    const found = findContamination(rows, evaluation);
    assert.throws(
      () => checkNotTheSameSet(found, rows.length),
      /2 of 2 training questions are evaluation questions.*evaluate on another one/,
    );
    assert.doesNotThrow(() => checkNotTheSameSet(found, 100));
    assert.doesNotThrow(() => checkNotTheSameSet([], 0));
  });

  const data = join(process.env['RETORT_DATA'] ?? '', 'gsm8k');
  const skip = process.env['RETORT_DATA'] !== undefined && existsSync(data) ? false : 'no RETORT_DATA with gsm8k';
  it('between GSM8K’s train and test split is what a plain search finds, and nothing else', { skip }, async () => {
    const read = async (split: string) => {
      const rows: { id: string; question: string; answer: string }[] = [];
      for await (const { value, line } of readJsonLines(join(data, `${split}.jsonl`))) {
        const { question, answer } = value as { question: string; answer: string };
        rows.push({ id: `${split}/${line}`, question, answer });
      }
      return rows;
    };
    const [train, test] = [await read('train'), await read('test')];
    assert.deepEqual([train.length, test.length], [7473, 1319]); // The published sizes.
    const found = findContamination(train, test);
    // A plain search, with another notion of a word boundary: blanks around the run in the text with everything else taken out.
    const plain = (text: string): string => ` ${words(text).join(' ')} `;
    for (const { trainingText, evaluationText, shared } of found) {
      assert.equal(shared.split(' ').length, 13);
      assert.ok(plain(trainingText).includes(` ${shared} `) && plain(evaluationText).includes(` ${shared} `), shared);
    }
    // And the other way round: of a part of the test questions, no run stands in any training row that was not found.
    const foundIds = new Set(found.map(({ id }) => id));
    const rest = train
      .filter(({ id }) => !foundIds.has(id))
      .map(({ question, answer }) => plain(question) + plain(answer))
      .join('\n');
    for (const { question } of test.filter((_, index) => index % 120 === 0)) {
      const list = words(question);
      for (let start = 0; start + 13 <= list.length; start += 13) assert.ok(!rest.includes(` ${list.slice(start, start + 13).join(' ')} `));
    }
    console.log(`GSM8K: ${found.length} of 7,473 train rows share 13 words in a row with a test question.`);
  });
});

describe('duplicates', () => {
  const text =
    'Tom has twelve apples and gives three of them to each of his two sisters, so he has six apples left in the end, which he eats one after the other.';

  it('are found when the words are the same, and when nearly all are; the first is kept', () => {
    const found = findDuplicates([
      { id: 'a', text },
      { id: 'b', text: text.toUpperCase().replaceAll(',', ' –') },
      { id: 'c', text: `${text} Done.` },
      {
        id: 'd',
        text: 'Something else altogether, of about the same length, which nobody would take for the story of Tom and of his many apples.',
      },
      { id: 'e', text: '' },
      { id: 'f', text: '…' },
    ]);
    assert.deepEqual(
      found.map(({ id, duplicateOf }) => [id, duplicateOf]),
      [
        ['b', 'a'],
        ['c', 'a'],
        ['f', 'e'],
      ],
    );
    assert.equal(found[0]?.similarity, 1);
    // 31 words give 27 runs of five; one word more gives 28, of which 27 are shared.
    assert.equal(found[1]?.similarity, 27 / 28);
  });

  it('at a threshold of 1 are the same words only', () => {
    assert.deepEqual(
      findDuplicates(
        [
          { id: 'a', text },
          { id: 'b', text: `${text} Done.` },
          { id: 'c', text },
        ],
        { threshold: 1 },
      ).map(({ id }) => id),
      ['c'],
    );
  });

  it('are those that comparing every pair finds', () => {
    const vocabulary = ['a', 'b', 'c', 'd', 'e'];
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    const texts = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 3 }), fc.array(fc.tuple(fc.nat(39), fc.constantFrom(...vocabulary)), { maxLength: 3 })),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(texts, (recipes) => {
        const list = recipes.map(([base, changes], index) => {
          const own = Array.from(
            { length: 40 },
            (_, place) => `${letters[base]}${letters[place % 20]}${letters[20 + Math.floor(place / 20)]}`,
          );
          for (const [place, word] of changes) own[place] = word;
          return { id: String(index), text: own.join(' ') };
        });
        const gramsOf = (item: { text: string }) => new Set(wordGrams(item.text.split(' '), 5));
        const expected: string[] = [];
        const kept: typeof list = [];
        for (const item of list) {
          const isDuplicate = kept.some((other) => {
            const [a, b] = [gramsOf(item), gramsOf(other)];
            return a.intersection(b).size / a.union(b).size >= 0.8;
          });
          if (isDuplicate) expected.push(item.id);
          else kept.push(item);
        }
        assert.deepEqual(
          findDuplicates(list).map(({ id }) => id),
          expected,
        );
      }),
      { seed: 5, numRuns: 100 }, // Fixed: a pair just at the threshold is missed once in four thousand times.
    );
  });
});

describe('selection', () => {
  const [base] = goldResponses([{ id: 'q', question: 'Q', solution: '#### 1', gold: '1' }], gsm8k);
  const answer = (exampleId: string, sampleIndex: number, change: Partial<Response> = {}): Response => ({
    ...(base as Response),
    exampleId,
    sampleIndex,
    ...change,
  });
  const responses = [
    answer('a', 0, { strict: false, flexibleExtraction: '7', text: 'seven, I think' }),
    answer('a', 1, { flexibleExtraction: '5', text: 'five' }),
    answer('a', 2, { strict: false, flexibleExtraction: '5', text: 'V' }),
    answer('b', 0, { strict: false, flexible: false, flexibleExtraction: undefined }),
  ];
  const strictly = verifyByTask('strict');
  const flexibly = verifyByTask('flexible');
  const kept = (policy: KeepPolicy, verificationOf: (response: Response) => Verification = strictly) =>
    selectResponses(responses, policy, verificationOf).kept.map(({ exampleId, sampleIndex }) => `${exampleId}${sampleIndex}`);

  it('keeps all, the right ones, and of several the first right one, the best or that of the majority', () => {
    assert.deepEqual(kept('all'), ['a0', 'a1', 'a2', 'b0']);
    assert.deepEqual(kept('right'), ['a1']);
    assert.deepEqual(kept('right', flexibly), ['a0', 'a1', 'a2']);
    assert.deepEqual(kept('first-right', flexibly), ['a0']);
    assert.deepEqual(kept('best-of-n', flexibly), ['a1', 'b0']); // Strictly right scores higher; the best of wrong ones is kept, too.
    assert.deepEqual(kept('majority'), ['a1', 'b0']);
    const byLength = ({ text }: Response): Verification => ({ isRight: true, score: -text.length });
    assert.deepEqual(kept('best-of-n', byLength), ['a2', 'b0']);
  });

  it('counts results of another number format as one majority', () => {
    const written = ['7', '1,000', '$1000.00', '7.5'].map((flexibleExtraction, sampleIndex) =>
      answer('a', sampleIndex, { flexibleExtraction }),
    );
    assert.deepEqual(
      selectResponses(written, 'majority', strictly).kept.map(({ sampleIndex }) => sampleIndex),
      [1],
    );
  });

  it('keeps a part of what there is, at most one answer a question where it says so, and gives the rest a reason', () => {
    const answers = fc.array(
      fc.record({
        exampleId: fc.constantFrom('a', 'b', 'c'),
        strict: fc.boolean(),
        flexible: fc.boolean(),
        flexibleExtraction: fc.constantFrom('1', '2', ''),
      }),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(answers, fc.constantFrom(...keepPolicies), (changes, policy) => {
        const list = changes.map(({ exampleId, ...change }, index) => answer(exampleId, index, change));
        const selection = selectResponses(list, policy, strictly);
        assert.equal(selection.kept.length + selection.rejected.length, list.length);
        assert.ok(selection.rejected.every(({ status, reason }) => status === 'rejected' && reason !== ''));
        const perQuestion = [...Map.groupBy(selection.kept, ({ exampleId }) => exampleId).values()];
        if (policy === 'right' || policy === 'first-right') assert.ok(selection.kept.every(({ strict }) => strict));
        if (policy !== 'all' && policy !== 'right') assert.ok(perQuestion.every(({ length }) => length === 1));
        // No question with answers is lost to a choice that wants no right one.
        if (policy === 'best-of-n' || policy === 'majority')
          assert.equal(perQuestion.length, new Set(list.map(({ exampleId }) => exampleId)).size);
      }),
      { seed: 3, numRuns: 300 },
    );
  });

  it('says why it turned an answer down', () => {
    const reasons = (policy: KeepPolicy) => selectResponses(responses, policy, flexibly).rejected.map(({ reason }) => reason);
    assert.deepEqual(reasons('right'), ['not right by the flexible rule']);
    assert.deepEqual(reasons('first-right'), [
      'not the first of 3 right answers',
      'not the first of 3 right answers',
      'not right by the flexible rule',
    ]);
    assert.deepEqual(reasons('best-of-n'), ['not the best of 3 answers', 'not the best of 3 answers']);
  });

  it('reports the yield of a source in counts', () => {
    const { kept: left } = selectResponses(responses, 'right', strictly);
    assert.deepEqual(yieldOf('gold', responses, left, flexibly), {
      ...{ source: 'gold', answerCount: 4, rightCount: 3, followsFormatCount: 4, keptCount: 1, questionCount: 1 },
    });
  });
});
