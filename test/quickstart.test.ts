import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { drillChats, studentChats, teacherChats } from '../quickstart/chats.ts';
import { allTexts } from '../quickstart/instructions.ts';
import { styles } from '../quickstart/styles.ts';
import { parseRunConfig } from '../src/config/parse-config.ts';
import { generateWordProblems, tasks } from '../src/tasks/index.ts';
import { loadModelText } from '../src/text/model-text.ts';
import { calculationsIn } from './calculations-in.ts';

const folder = join(import.meta.dirname, '../quickstart');
const file = join(folder, 'quickstart.yaml');
const { config } = parseRunConfig({ text: readFileSync(file, 'utf8'), file }, { folder, environment: {}, isThere: existsSync });
const problems = generateWordProblems({ part: 'pretrain', seed: 9, count: 200 });
const chats = [...teacherChats({ seed: 1, count: 200 }), ...studentChats({ seed: 2, count: 100 }), ...drillChats({ seed: 11, count: 50 })];

describe('the quickstart’s styles of answering', () => {
  for (const [name, style] of Object.entries(styles)) {
    it(`${name}: right answers by true calculations`, () => {
      for (const problem of problems) {
        const answer = style.answer(problem);
        assert.equal(tasks['word-problems'].score(answer, problem).strict, true, answer);
        for (const { stated, evaluated } of calculationsIn(answer)) assert.equal(stated, evaluated, answer);
      }
    });
  }

  it('are asked for by instructions that no other style has', () => {
    const texts = Object.values(styles).map(({ instructions }) => new Set(instructions.flatMap(allTexts)));
    texts.forEach((own, index) => {
      for (const other of texts.slice(index + 1)) assert.equal(own.isDisjointFrom(other), true);
    });
  });
});

describe('what the quickstart’s pair learnt', () => {
  it('holds none of the priming texts of the run', () => {
    const letters = (text: string): string => text.toLowerCase().replace(/[^a-z ]/g, '');
    const learnt = new Set(Object.values(styles).flatMap(({ instructions }) => instructions.flatMap(allTexts).map(letters)));
    const asked = config.arms.flatMap((arm) => (arm.kind === 'strategy' && arm.strategy.text !== '' ? [arm.strategy.text] : []));
    assert.ok(asked.length >= 3);
    assert.deepEqual(
      asked.filter((text) => learnt.has(letters(text))),
      [],
    );
  });

  it('holds none of the questions of the run', () => {
    const { task } = config;
    assert.ok(task.name === 'word-problems');
    const asked = (['train', 'test'] as const).flatMap((part) => generateWordProblems({ part, seed: task.seed, count: 200 }));
    const learnt = chats.map(({ messages }) => messages.map(({ content }) => content).join('\n')).join('\n');
    assert.deepEqual(
      asked.filter(({ question }) => learnt.includes(question)),
      [],
    );
  });

  it('gives the student no instruction on how to answer', () => {
    const told = studentChats({ seed: 2, count: 100 }).flatMap(({ messages }) => messages.filter(({ role }) => role !== 'assistant'));
    assert.ok(told.every(({ content }) => content.endsWith(`?\n\n${tasks['word-problems'].instruction}`)));
  });
});

describe('the quickstart’s models', () => {
  const files = ['teacher', 'student'].flatMap((name) => readdirSync(join(folder, name)).map((file) => join(folder, name, file)));

  it('are 4 MB at most', () => assert.ok(files.reduce((sum, file) => sum + statSync(file).size, 0) <= 4_000_000));

  it('have one tokenizer, which gives every text back', async () => {
    const [teacher, student] = ['teacher', 'student'].map((name) => readFileSync(join(folder, name, 'tokenizer.json'), 'utf8'));
    assert.equal(teacher, student);
    const { tokenizer } = await loadModelText(join(folder, 'teacher'));
    const strange = ['Ünïcödé – 漢字 🙂', '<|end|>', '  two  spaces\n\n\ttab', '1234 + 56'];
    for (const text of [...chats.flatMap(({ messages }) => messages.map(({ content }) => content)), ...strange]) {
      assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
    }
    for (let number = 1; number <= 30; number++) assert.equal(tokenizer.encode(String(number)).length, 1);
  });

  it('have tokens that Hugging Face’s tokenizers gives too', async () => {
    const goldenSchema = z.looseObject({ texts: z.array(z.string()), ids: z.array(z.array(z.number())) });
    const golden = goldenSchema.parse(JSON.parse(readFileSync(join(import.meta.dirname, 'golden/quickstart-tokens.json'), 'utf8')));
    const { tokenizer } = await loadModelText(join(folder, 'teacher'));
    golden.texts.forEach((text, index) => {
      // The script reads a role marker in a text as the marker.
      assert.deepEqual(tokenizer.encode(text, { specialTokens: 'parse' }), golden.ids[index], JSON.stringify(text));
    });
  });

  it('have the chat template that they were trained with', async () => {
    const { template } = await loadModelText(join(folder, 'student'));
    const rendered = template.render([{ role: 'user', content: 'Hello' }], { addGenerationPrompt: true });
    assert.equal(rendered, '<|user|>Hello<|end|><|assistant|>');
  });

  it('say that they are small Llamas', () => {
    const shape = z.looseObject({ architectures: z.array(z.string()), hidden_size: z.number() });
    const [teacher, student] = ['teacher', 'student'].map((name) =>
      shape.parse(JSON.parse(readFileSync(join(folder, name, 'config.json'), 'utf8'))),
    );
    assert.deepEqual(teacher?.architectures, ['LlamaForCausalLM']);
    assert.ok((student?.hidden_size ?? Number.NaN) < (teacher?.hidden_size ?? Number.NaN));
  });
});
