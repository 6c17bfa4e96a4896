import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { parseTrainingLine, readTrainingLines, rowOfLine } from '../src/text/training-lines.ts';
import { byteTokenizer } from './fake-engine.ts';

const where = 'data.jsonl:3';
const user = { role: 'user', content: 'Hi' };
const assistant = { role: 'assistant', content: 'Hello.' };

describe('a line of training data', () => {
  it('is a conversation, or a prompt and a completion as texts or as messages', () => {
    assert.deepEqual(parseTrainingLine({ messages: [user, assistant], id: 7 }, where), {
      kind: 'conversation',
      messages: [user, assistant],
      where,
    });
    assert.deepEqual(parseTrainingLine({ prompt: 'a', completion: 'b' }, where), {
      kind: 'completion',
      prompt: 'a',
      completion: 'b',
      where,
    });
    assert.deepEqual(parseTrainingLine({ prompt: [user], completion: [assistant] }, where), {
      kind: 'conversation',
      messages: [user, assistant],
      promptCount: 1,
      where,
    });
  });

  it('is refused with its number and what is wrong', () => {
    const cases: [unknown, RegExp][] = [
      [null, /expected \{"messages"/],
      [{ mesages: [] }, /Did you mean "messages"\?/],
      [{ messages: [] }, /messages/],
      [{ messages: [{ role: 'robot', content: 'x' }] }, /messages\.0\.role/],
      [{ messages: [{ role: 'user' }] }, /messages\.0\.content/],
      [{ messages: [{ ...user, contnet: 'x' }] }, /contnet/],
      [{ prompt: 'x' }, /completion/],
      [{ prompt: 'x', completion: [assistant] }, /both/],
    ];
    for (const [value, pattern] of cases) {
      assert.throws(
        () => parseTrainingLine(value, where),
        (error) => {
          assert.ok(error instanceof UserError);
          assert.match(error.message, /^data\.jsonl:3: /);
          assert.match(error.message, pattern);
          return true;
        },
      );
    }
  });

  it('becomes a row: through the template, or raw', () => {
    const { tokenizer, template } = byteTokenizer();
    const learnt = (value: unknown, turns: 'all' | 'last' = 'all'): string => {
      const row = rowOfLine(template, tokenizer, parseTrainingLine(value, where), { maximumLength: 500, turns });
      return tokenizer.decode((row?.tokens ?? []).filter((_, index) => row?.weights[index] === 1));
    };
    const chat = [user, assistant, user, { role: 'assistant', content: 'Again.' }];
    assert.equal(learnt({ messages: chat }), 'Hello.<|im_end|>Again.<|im_end|>');
    assert.equal(learnt({ messages: chat }, 'last'), 'Again.<|im_end|>');
    assert.equal(learnt({ prompt: chat.slice(0, 3), completion: chat.slice(3) }), 'Again.<|im_end|>');
    assert.equal(learnt({ prompt: 'raw', completion: ' text' }), ' text<|im_end|>');
  });
});

describe('a file of training data', () => {
  it('is read up to a limit, and errors name its lines', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'retort-lines-'));
    try {
      const file = join(folder, 'data.jsonl');
      await writeFile(
        file,
        `${JSON.stringify({ prompt: 'a', completion: 'b' })}\n\n${JSON.stringify({ prompt: 'c', completion: 'd' })}\n{"prompt":1}\n`,
      );
      assert.deepEqual(
        (await readTrainingLines(file, { limit: 2 })).map(({ where: place }) => place),
        [`${file}:1`, `${file}:3`],
      );
      await assert.rejects(readTrainingLines(file), (error) => error instanceof UserError && error.message.startsWith(`${file}:4: `));
      await writeFile(file, '\n');
      await assert.rejects(readTrainingLines(file), /no lines to train on/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
