import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import type { ChatMessage } from '../src/text/chat-message.ts';
import { createChatTemplate, pinnedDate, plainTemplateSource } from '../src/text/chat-template.ts';

const golden = join(import.meta.dirname, 'golden');

const renderedSchema = z.object({
  template: z.string().nullable(),
  bos: z.string(),
  eos: z.string(),
  rows: z.array(z.union([z.string(), z.object({ error: z.string() })])),
});

const file = z
  .object({ date: z.string(), conversations: z.array(z.array(z.tuple([z.enum(['system', 'user', 'assistant']), z.string()]))) })
  .catchall(z.unknown())
  .parse(JSON.parse(readFileSync(join(golden, 'chat-templates.json'), 'utf8')));

const conversations: ChatMessage[][] = file.conversations.map((messages) => messages.map(([role, content]) => ({ role, content })));

const sourceOf = (name: string): string => readFileSync(join(golden, 'templates', `${name}.jinja`), 'utf8');

/** Every conversation, with and without a generation prompt, as transformers rendered it (test/golden/chat_templates.py). */
const checkRendering = (name: string, source: string): void => {
  const expected = renderedSchema.parse(file[name]);
  const template = createChatTemplate(source, { bosToken: expected.bos, eosToken: expected.eos, date: file.date });
  for (const [index, messages] of conversations.entries()) {
    for (const addGenerationPrompt of [false, true]) {
      const row = expected.rows[2 * index + (addGenerationPrompt ? 1 : 0)];
      const where = `${name}, conversation ${index}, generation prompt ${addGenerationPrompt}`;
      if (typeof row === 'string') assert.equal(template.render(messages, { addGenerationPrompt }), row, where);
      else
        assert.throws(
          () => template.render(messages, { addGenerationPrompt }),
          (error) => error instanceof UserError && error.message.includes(row?.error ?? '?'),
          where,
        );
    }
  }
};

describe('chat templates render as in transformers', () => {
  for (const name of ['llama3-style', 'qwen2-style', 'qwen3-style', 'gemma-style', 'instruct-style', 'dated-style']) {
    it(name, () => checkRendering(name, sourceOf(name)));
  }
  it('plain fallback', () => {
    assert.equal(renderedSchema.parse(file['plain fallback']).template, plainTemplateSource, 'run test/golden/chat_templates.py again');
    checkRendering('plain fallback', plainTemplateSource);
  });
  it('SmolLM2-135M-Instruct', (test) => {
    const folder = process.env['RETORT_MODELS'];
    if (folder === undefined) return test.skip('RETORT_MODELS is not set: no template of SmolLM2');
    const config = z
      .object({ chat_template: z.string() })
      .parse(JSON.parse(readFileSync(join(folder, 'smollm2-135m-instruct', 'tokenizer_config.json'), 'utf8')));
    checkRendering('smollm2-135m-instruct', config.chat_template);
    assert.equal(
      createChatTemplate(config.chat_template).systemText,
      'You are a helpful AI assistant named SmolLM, trained by Hugging Face',
    );
  });
});

describe('the date of a template', () => {
  const dated = "{{ strftime_now('%Y-%m-%d') }} {{ date_string }}{% for m in messages %}{{ m['content'] }}{% endfor %}";
  const ask: ChatMessage[] = [{ role: 'user', content: '!' }];
  it('is pinned, whatever today is', () => {
    assert.equal(pinnedDate, '2024-07-26');
    assert.equal(createChatTemplate(dated).render(ask, { addGenerationPrompt: false }), '2024-07-26 26 Jul 2024!');
  });
  it('is the one asked for, and belongs to the hash', () => {
    const other = createChatTemplate(dated, { date: '2025-02-01' });
    assert.equal(other.render(ask, { addGenerationPrompt: false }), '2025-02-01 01 Feb 2025!');
    assert.notEqual(other.hash, createChatTemplate(dated).hash);
  });
  it('must be a day', () => {
    for (const date of ['today', '2024-13-01', '2024-02-30', '26.7.2024']) {
      assert.throws(
        () => createChatTemplate(dated, { date }),
        (error) => error instanceof UserError && error.message.includes(date),
      );
    }
  });
  it('does not move the white space at a template’s beginning', () => {
    const source = "\n  {% if true %}x{% endif %}{{ strftime_now('%Y') }}";
    assert.equal(createChatTemplate(source).render(ask, { addGenerationPrompt: false }), '\nx2024');
  });
});

describe('the default system text', () => {
  it('is what the template says by itself', () => {
    assert.equal(createChatTemplate(sourceOf('qwen2-style')).systemText, 'You answer briefly and well.');
  });
  it('is empty where the template has none, needs none, or refuses system messages', () => {
    for (const name of ['llama3-style', 'qwen3-style', 'gemma-style', 'instruct-style'])
      assert.equal(createChatTemplate(sourceOf(name)).systemText, '', name);
  });
});

describe('a chat template', () => {
  it('has a hash of all that rendering depends on', () => {
    const hashes = [
      createChatTemplate('a'),
      createChatTemplate('b'),
      createChatTemplate('a', { bosToken: 'x' }),
      createChatTemplate('a', { eosToken: 'x' }),
      createChatTemplate('a', { date: '2024-07-27' }),
      createChatTemplate('a', { variables: { enable_thinking: false } }),
    ].map(({ hash }) => hash);
    assert.equal(new Set(hashes).size, 6);
    assert.equal(createChatTemplate('a', { name: 'other' }).hash, hashes[0]);
  });
  it('that cannot be read is named', () => {
    assert.throws(
      () => createChatTemplate('{% for %}', { name: 'chat_template.jinja' }),
      (error) => error instanceof UserError && error.message.includes('chat_template.jinja'),
    );
  });
});
