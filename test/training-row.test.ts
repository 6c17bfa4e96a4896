import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../src/base/errors.ts';
import type { ChatMessage } from '../src/text/chat-message.ts';
import { type ChatTemplate, createChatTemplate, plainTemplateSource } from '../src/text/chat-template.ts';
import { createModelText } from '../src/text/model-text.ts';
import { createTokenizer, type Tokenizer } from '../src/text/tokenizer.ts';
import {
  completionRow,
  conversationRow,
  endOfTurn,
  endTokens,
  promptTokens,
  type TrainingRow,
  trainingRow,
} from '../src/text/training-row.ts';
import { trainingRows } from '../src/text/training-rows.ts';

const golden = join(import.meta.dirname, 'golden');
const templateSource = (name: string): string => readFileSync(join(golden, 'templates', `${name}.jinja`), 'utf8');

interface Pair {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
}

const open = (tokenizerName: string, source: string, named: { bos?: string; eos?: string; pad?: string }): Pair => {
  const tokenizerJson: unknown = JSON.parse(readFileSync(join(golden, 'tokenizers', `${tokenizerName}.json`), 'utf8'));
  const tokenizer = createTokenizer({
    tokenizerJson,
    tokenizerConfigJson: { bos_token: named.bos, eos_token: named.eos, pad_token: named.pad },
  });
  return { tokenizer, template: createChatTemplate(source, { bosToken: named.bos, eosToken: named.eos, name: 'test' }) };
};

const chatml = { bos: '<|im_start|>', eos: '<|im_end|>', pad: '<|im_end|>' };
const smol = () => open('smol-like', templateSource('qwen2-style'), chatml);
const qwen3 = () => open('qwen-like', templateSource('qwen3-style'), { eos: '<|im_end|>' });
const llama3 = () => open('llama3-like', templateSource('llama3-style'), { bos: '<|begin_of_text|>', eos: '<|eot_id|>' });
const instruct = () => open('smol-like', templateSource('instruct-style'), { bos: '<|endoftext|>', eos: '<|im_end|>' });
const plain = () => open('smol-like', plainTemplateSource, { eos: '<|im_end|>' });
const all = { smol, qwen3, llama3, instruct, plain };

const options = { maximumLength: 4096, where: 'train.jsonl:7 (id x-6)' };
const question: ChatMessage[] = [{ role: 'user', content: 'What is 2 + 3?' }];

const learnt = ({ tokenizer }: Pair, row: TrainingRow | undefined): string =>
  tokenizer.decode((row?.tokens ?? []).filter((_, index) => row?.weights[index] === 1));
const whole = ({ tokenizer }: Pair, row: TrainingRow | undefined): string => tokenizer.decode(row?.tokens ?? []);
const refused = (act: () => unknown, ...patterns: RegExp[]): void => {
  assert.throws(act, (error) => {
    assert.ok(error instanceof UserError, String(error));
    for (const pattern of [/^train\.jsonl:7 \(id x-6\): /, ...patterns]) assert.match(error.message, pattern);
    return true;
  });
};

describe('a row of a prompt and its answer, with every kind of template', () => {
  for (const [name, make] of Object.entries(all)) {
    it(`${name}: begins with the very tokens that generation is given, of weight 0`, () => {
      const pair = make();
      const row = trainingRow(pair.template, pair.tokenizer, question, 'It is 5.\n#### 5', options);
      const prompt = promptTokens(pair.template, pair.tokenizer, question);
      assert.deepEqual(row?.tokens.slice(0, prompt.length), prompt);
      assert.equal(row?.promptTokenCount, prompt.length);
      assert.deepEqual(row?.weights, [
        ...prompt.map(() => 0),
        ...Array.from({ length: (row?.tokens.length ?? 0) - prompt.length }, () => 1),
      ]);
      assert.equal(row?.alignment, 'prefix');
      assert.equal(row?.weightedTokenCount, row?.weights.filter((weight) => weight === 1).length);
    });

    it(`${name}: learns the answer and its end of turn, and ends there (trap 6)`, () => {
      const pair = make();
      const row = trainingRow(pair.template, pair.tokenizer, question, 'It is 5.\n#### 5', options);
      const end = endOfTurn(pair.template, pair.tokenizer);
      const text = learnt(pair, row);
      assert.equal(text.replace('<think>\n\n</think>\n\n', '').trim(), `It is 5.\n#### 5${end.token}`);
      assert.equal(row?.tokens.at(-1), end.id);
      // The whole row is what the template renders, up to what it writes after the end of the turn.
      const rendered = pair.template.render([...question, { role: 'assistant', content: 'It is 5.\n#### 5' }], {
        addGenerationPrompt: false,
      });
      assert.ok(rendered.startsWith(whole(pair, row)), `${whole(pair, row)} is not the beginning of ${rendered}`);
    });
  }
});

describe('trap 1: no token to learn', () => {
  it('an empty answer is refused', () => {
    const { template, tokenizer } = smol();
    for (const answer of ['', ' \n\t '])
      refused(() => trainingRow(template, tokenizer, question, answer, options), /empty/, /Remove the line/);
  });
  it('a conversation without an assistant is refused', () => {
    const { template, tokenizer } = smol();
    refused(() => conversationRow(template, tokenizer, question, { ...options, train: 'all' }), /no assistant message/);
  });
  it('an answer that truncation empties gives no row; one that it cuts has no end of turn', () => {
    const pair = smol();
    const prompt = promptTokens(pair.template, pair.tokenizer, question);
    const row = (maximumLength: number) => trainingRow(pair.template, pair.tokenizer, question, 'It is 5.', { ...options, maximumLength });
    assert.equal(row(prompt.length), undefined);
    assert.equal(row(3), undefined);
    const cut = row(prompt.length + 1);
    assert.deepEqual([cut?.tokens.length, cut?.weightedTokenCount, cut?.isTruncated], [prompt.length + 1, 1, true]);
    assert.ok(!learnt(pair, cut).includes('<|im_end|>'));
    const full = row(4096);
    assert.equal(full?.isTruncated, false);
    assert.equal(row(full?.tokens.length ?? 0)?.isTruncated, false);
  });
  it('dropped rows are counted, and none left is an error', () => {
    const { template, tokenizer } = smol();
    const answers = ['yes', `${'long '.repeat(200)}`, 'no'];
    const make = (maximumLength: number) => (answer: string) =>
      trainingRow(template, tokenizer, question, answer, { ...options, maximumLength });
    const limit = 80;
    const strict = trainingRows(answers, make(limit), { maximumLength: limit, keepTruncated: false, what: 'arm none' });
    assert.deepEqual([strict.rows.map(({ item }) => item), strict.dropped, strict.truncatedCount], [['yes', 'no'], [answers[1]], 0]);
    const loose = trainingRows(answers, make(limit), { maximumLength: limit, keepTruncated: true, what: 'arm none' });
    assert.deepEqual([loose.rows.length, loose.dropped.length, loose.truncatedCount], [3, 0, 1]);
    assert.throws(
      () => trainingRows(answers, make(10), { maximumLength: 10, keepTruncated: true, what: 'arm none' }),
      /arm none: none of the 3 rows fits into 10 tokens/,
    );
    assert.throws(() => trainingRows([], make(10), { maximumLength: 10, keepTruncated: true, what: 'arm none' }), UserError);
  });
});

describe('trap 2: templates that rewrite turns', () => {
  const thought = '<think>\n2 and 3\n</think>\n\n5';
  const conversation: ChatMessage[] = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: '<think>\nThey greet.\n</think>\n\nHello.' },
    ...question,
    { role: 'assistant', content: thought },
  ];
  it('learns the thought of the last turn, and of earlier ones what the template leaves of them', () => {
    const pair = qwen3();
    const last = conversationRow(pair.template, pair.tokenizer, conversation, { ...options, train: 'last' });
    assert.equal(learnt(pair, last), `${thought}<|im_end|>`);
    assert.ok(!whole(pair, last).includes('They greet'));
    const every = conversationRow(pair.template, pair.tokenizer, conversation, { ...options, train: 'all' });
    assert.equal(learnt(pair, every), `Hello.<|im_end|>${thought}<|im_end|>`);
    assert.deepEqual(every?.tokens, last?.tokens);
  });

  it('follows the template’s variables: without thinking, the empty thought belongs to the prompt', () => {
    const { tokenizer } = qwen3();
    const pair = {
      tokenizer,
      template: createChatTemplate(templateSource('qwen3-style'), { eosToken: '<|im_end|>', variables: { enable_thinking: false } }),
    };
    const row = trainingRow(pair.template, tokenizer, question, 'It is 5.', options);
    assert.equal(learnt(pair, row), 'It is 5.<|im_end|>');
    assert.equal(
      learnt(qwen3(), trainingRow(qwen3().template, tokenizer, question, 'It is 5.', options)),
      '<think>\n\n</think>\n\nIt is 5.<|im_end|>',
    );
  });

  // A generation prompt that opens a thought, which a rendered answer does not have: as DeepSeek-R1's.
  const opening =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{{ m['content'].split('</think>')[-1] }}{{ '<|im_end|>\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}";
  it('finds the answer by its place where the prompt is no prefix, and says so', () => {
    const pair = open('smol-like', opening, chatml);
    const row = trainingRow(pair.template, pair.tokenizer, question, 'It is 5.', options);
    assert.equal(row?.alignment, 'spans');
    assert.equal(learnt(pair, row), 'It is 5.<|im_end|>');
    assert.equal(whole(pair, row), '<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\nIt is 5.<|im_end|>');
  });
  it('refuses when the answer cannot be found either', () => {
    const { template, tokenizer } = open('smol-like', opening, chatml);
    refused(
      () => trainingRow(template, tokenizer, question, 'hm</think>It is 5.', options),
      /rewrites both the prompt and the assistant's text \(message 2\)/,
    );
  });
  it('counts rewritten rows', () => {
    const { template, tokenizer } = open('smol-like', opening, chatml);
    const rows = trainingRows(['a', 'b'], (answer) => trainingRow(template, tokenizer, question, answer, options), {
      maximumLength: 99,
      keepTruncated: true,
      what: 'x',
    });
    assert.equal(rows.rewrittenCount, 2);
  });
});

describe('trap 4b: the border between prompt and answer', () => {
  it('is never merged across', () => {
    // This tokenizer has a token for two new lines; after "assistant\n" a white-space answer would pull the border into the prompt.
    const pair = llama3();
    const { tokenizer, template } = pair;
    const row = trainingRow(template, tokenizer, question, '\n\nHi', options);
    const prompt = promptTokens(template, tokenizer, question);
    assert.deepEqual(row?.tokens, [...prompt, ...tokenizer.encode('Hi'), endOfTurn(template, tokenizer).id]);
  });
  it('costs a sentencepiece tokenizer no space: the answer goes on from the prompt', () => {
    const { tokenizer, template } = open('sentencepiece-like', templateSource('instruct-style'), { bos: '<s>', eos: '</s>' });
    const row = trainingRow(template, tokenizer, question, 'It is 5.', options);
    // Nothing merges across "]" and " It", so the whole text at once gives the very same tokens.
    const rendered = template.render([...question, { role: 'assistant', content: 'It is 5.' }], { addGenerationPrompt: false });
    assert.deepEqual(row?.tokens, tokenizer.encode(rendered, { specialTokens: 'parse' }));
    const raw = completionRow(tokenizer, 'one', ' two', options);
    assert.deepEqual(raw?.tokens, [...tokenizer.rawPrefix, ...tokenizer.encode('one two'), tokenizer.eosToken?.id]);
  });
  it('takes the answer without white space around it, and keeps what is inside', () => {
    const pair = smol();
    assert.equal(learnt(pair, trainingRow(pair.template, pair.tokenizer, question, '\n\n  a  b\n\nc \n', options)), 'a  b\n\nc<|im_end|>');
  });
});

describe('trap 5: a doubled beginning', () => {
  const doubled =
    "{{ bos_token + bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
  it('is refused when a row begins with BOS twice', () => {
    const { template, tokenizer } = open('smol-like', doubled, { bos: '<|endoftext|>', eos: '<|im_end|>' });
    refused(() => trainingRow(template, tokenizer, question, '5', options), /begins with "<\|endoftext\|>" twice/);
  });
  it('is not suspected where BOS begins every message', () => {
    const pair = smol();
    const row = trainingRow(pair.template, pair.tokenizer, question, '5', options);
    assert.equal(row?.tokens.filter((id) => id === pair.tokenizer.bosToken?.id).length, 3);
  });
  it('does not come from the tokenizer: a chat is encoded without what it puts around raw text', () => {
    const { template, tokenizer } = llama3();
    const bos = tokenizer.bosToken?.id;
    assert.deepEqual(tokenizer.rawPrefix, [bos]);
    assert.equal(promptTokens(template, tokenizer, question).filter((id) => id === bos).length, 1);
  });
});

describe('trap 6: the end of a turn', () => {
  it('is the first special token after the answer', () => {
    const ends = Object.values(all).map((make) => {
      const { template, tokenizer } = make();
      return endOfTurn(template, tokenizer).token;
    });
    assert.deepEqual(ends, ['<|im_end|>', '<|im_end|>', '<|eot_id|>', '<|im_end|>', '<|im_end|>']);
  });
  it('must be there', () => {
    const endless = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}";
    const { template, tokenizer } = open('smol-like', endless, chatml);
    assert.throws(
      () => trainingRow(template, tokenizer, question, '5', options),
      (error) => error instanceof UserError && /never learn to stop/.test(error.message),
    );
  });
  it('must be there in every learnt turn', () => {
    // Ends a turn only when it is the second message.
    const some =
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{% if loop.index == 2 %}{{ '<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    const { template, tokenizer } = open('smol-like', some, chatml);
    refused(
      () => trainingRow(template, tokenizer, [{ role: 'system', content: 's' }, ...question], '5', options),
      /does not end this assistant's turn \(message 3\) with <\|im_end\|>/,
    );
  });
  it('is among the ids to stop at, with those of the configs', () => {
    const { template, tokenizer } = smol();
    const end = tokenizer.tokenId('<|im_end|>') ?? -1;
    assert.deepEqual(
      endTokens([{ eos_token_id: [7, end, 9] }, { eos_token_id: 8 }], tokenizer, template),
      [end, 7, 8, 9].sort((a, b) => a - b),
    );
    assert.deepEqual(endTokens([undefined, null, {}, { eos_token_id: null }], tokenizer, template), [end]);
    const llama = llama3();
    const eot = llama.tokenizer.tokenId('<|eot_id|>') ?? -1;
    const eos = llama.tokenizer.tokenId('<|end_of_text|>') ?? -1;
    assert.deepEqual(
      endTokens([{ eos_token_id: eos }], llama.tokenizer, llama.template),
      [eot, eos].sort((a, b) => a - b),
    );
  });
});

describe('trap 7: padding is known by length', () => {
  it('the end of turn is learnt although it is also the padding token', () => {
    const { template, tokenizer } = smol();
    assert.equal(tokenizer.padToken?.id, tokenizer.eosToken?.id);
    const row = trainingRow(template, tokenizer, question, '5', options);
    assert.equal(row?.tokens.at(-1), tokenizer.padToken?.id);
    assert.equal(row?.weights.at(-1), 1);
  });
});

describe('special tokens in what people and teachers wrote', () => {
  for (const [name, make] of Object.entries(all)) {
    it(`${name}: stay text in question and answer`, () => {
      const pair = make();
      const { template, tokenizer } = pair;
      const end = endOfTurn(template, tokenizer);
      const asked: ChatMessage[] = [{ role: 'user', content: `a ${end.token} b` }];
      const harmless: ChatMessage[] = [{ role: 'user', content: 'a b' }];
      const count = (messages: ChatMessage[]) => promptTokens(template, tokenizer, messages).filter((id) => id === end.id).length;
      assert.equal(count(asked), count(harmless));
      const row = trainingRow(template, tokenizer, question, `one${end.token} two`, options);
      assert.equal(row?.tokens.slice(row.promptTokenCount).filter((id) => id === end.id).length, 1);
      assert.ok(learnt(pair, row).endsWith(`one${end.token} two${end.token}`));
    });
  }
  it('stay text beside private-use characters, which stand in for nothing', () => {
    const pair = smol();
    const content = '\ue000\ue001<|im_end|>\ue002<|im_start|>';
    const row = trainingRow(pair.template, pair.tokenizer, [{ role: 'user', content }], `x${content}`, options);
    assert.equal(learnt(pair, row), `x${content}<|im_end|>`);
    assert.ok(whole(pair, row).includes(`user\n${content}<|im_end|>`));
  });
});

describe('any question and any answer', () => {
  const pieces = fc.constantFrom(
    'a',
    'Ab',
    ' ',
    '\n',
    '\n\n',
    '7',
    '12',
    '#### 5',
    '<|im_end|>',
    '<|eot_id|>',
    '<|im_start|>',
    '<',
    '|',
    'é',
    'e\u0301',
    '😂',
    '\ue000',
    "'s",
    '{{ x }}',
    '{% y %}',
    '\\',
  );
  const someText = fc.array(pieces, { maxLength: 12 }).map((parts) => parts.join(''));
  for (const [name, make] of Object.entries({ smol, llama3, instruct, plain })) {
    it(`${name}: the prompt comes first, then the answer to the letter, then one end of turn`, () => {
      const pair = make();
      const { template, tokenizer } = pair;
      const end = endOfTurn(template, tokenizer);
      fc.assert(
        fc.property(someText, someText, (asked, answer) => {
          fc.pre(answer.trim() !== '');
          const messages: ChatMessage[] = [{ role: 'user', content: asked }];
          const row = trainingRow(template, tokenizer, messages, answer, options);
          const prompt = promptTokens(template, tokenizer, messages);
          assert.deepEqual(row?.tokens.slice(0, prompt.length), prompt);
          assert.equal(learnt(pair, row).trim(), `${answer.trim()}${end.token}`);
          assert.equal(row?.tokens.slice(prompt.length).filter((id) => id === end.id).length, 1);
        }),
        { numRuns: 60 },
      );
    });
  }
});

describe('conversations', () => {
  const conversation: ChatMessage[] = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: ' Hello. ' },
    { role: 'user', content: 'Bye' },
    { role: 'assistant', content: 'See you.' },
  ];
  it('learn every assistant turn, the last, or those from a message on', () => {
    const pair = smol();
    const row = (train: 'all' | 'last' | { from: number }) =>
      learnt(pair, conversationRow(pair.template, pair.tokenizer, conversation, { ...options, train }));
    assert.equal(row('all'), 'Hello.<|im_end|>See you.<|im_end|>');
    assert.equal(row('last'), 'See you.<|im_end|>');
    assert.equal(row({ from: 2 }), 'See you.<|im_end|>');
  });
  it('tokenise turns as a chat would have met them: each prompt is a prefix', () => {
    const { template, tokenizer } = smol();
    const row = conversationRow(template, tokenizer, conversation, { ...options, train: 'all' });
    for (const turn of [1, 3]) {
      const trimmed = conversation.map((message) => ({ ...message, content: message.content.trim() }));
      const prompt = promptTokens(template, tokenizer, trimmed.slice(0, turn));
      assert.deepEqual(row?.tokens.slice(0, prompt.length), prompt);
      assert.deepEqual([row?.weights[prompt.length - 1], row?.weights[prompt.length]], [0, 1]);
    }
  });
});

describe('raw prompts and completions', () => {
  it('are BOS where the tokenizer adds it, the prompt, the completion, EOS', () => {
    const { tokenizer } = llama3();
    const row = completionRow(tokenizer, 'Once upon', ' a time', options);
    const expected = [
      ...tokenizer.rawPrefix,
      ...tokenizer.encode('Once upon'),
      ...tokenizer.encode(' a time'),
      tokenizer.eosToken?.id ?? -1,
    ];
    assert.deepEqual(row?.tokens, expected);
    assert.equal(row?.weights.indexOf(1), 1 + tokenizer.encode('Once upon').length);
    assert.ok(!row?.weights.slice(row.promptTokenCount).includes(0));
  });
  it('do not learn the first token of all, which nothing predicts', () => {
    const { tokenizer } = smol();
    const row = completionRow(tokenizer, '', 'abc', options);
    assert.equal(row?.weights[0], 0);
    assert.equal(row?.weights[1], 1);
  });
  it('need a completion and an EOS', () => {
    const { tokenizer } = smol();
    refused(() => completionRow(tokenizer, 'x', '', options), /completion is empty/);
    const { tokenizer: endless } = open('smol-like', plainTemplateSource, {});
    refused(() => completionRow(endless, 'x', 'y', options), /no eos_token/);
  });
});

describe('the text of a model', () => {
  const tokenizerJson: unknown = JSON.parse(readFileSync(join(golden, 'tokenizers', 'smol-like.json'), 'utf8'));
  it('takes the plain fallback where there is no template, and says so', () => {
    const text = createModelText({ tokenizerJson, tokenizerConfigJson: { eos_token: '<|im_end|>' } });
    assert.equal(text.template.name, 'plain fallback');
    assert.deepEqual(text.endTokens, [2]);
    const own = createModelText({
      tokenizerJson,
      tokenizerConfigJson: { eos_token: '<|im_end|>', chat_template: templateSource('qwen2-style') },
      generationConfig: { eos_token_id: [0] },
    });
    assert.equal(own.template.name, "the model's own");
    assert.deepEqual(own.endTokens, [0, 2]);
  });
  it('takes the template called default of several', () => {
    const several = (...names: string[]) => ({
      tokenizerJson,
      tokenizerConfigJson: {
        eos_token: '<|im_end|>',
        chat_template: names.map((name) => ({ name, template: `${name}${templateSource('qwen2-style')}` })),
      },
    });
    assert.match(createModelText(several('tools', 'default')).template.render(question, { addGenerationPrompt: true }), /^default/);
    assert.throws(() => createModelText(several('tools', 'rag')), /"tools", "rag", and none is called "default"/);
  });
  it('refuses a tokenizer with more ids than the weights have', () => {
    const files = { tokenizerJson, tokenizerConfigJson: { eos_token: '<|im_end|>' }, modelConfig: { vocab_size: 400 } };
    assert.throws(
      () => createModelText(files, {}, 'models/x'),
      /does not fit the weights in models\/x: its ids go up to 419 .*vocab_size 400/,
    );
    createModelText({ ...files, modelConfig: { vocab_size: 420 } });
  });
});
