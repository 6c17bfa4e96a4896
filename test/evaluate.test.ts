import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { readAnswerRecords } from '../src/evaluation/answer-record.ts';
import { engineAnswerer, teacherAnswerer } from '../src/evaluation/answerer.ts';
import { evaluate, evaluateLikelihood } from '../src/evaluation/evaluate.ts';
import { scoreAnswers } from '../src/evaluation/score-answers.ts';
import type { Example, Task } from '../src/tasks/task.ts';
import { byteTokenizer, type FakeEngineOptions, fakeEngine } from './fake-engine.ts';

const fileFor = async (t: TestContext, name = 'answers.jsonl'): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-evaluate-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, name);
};

/** Right is the gold number after ####; flexibly, anywhere at the end. */
const task: Task = {
  name: 'sums',
  instruction: 'End with #### and the number.',
  parseExample: () => {
    throw new Error('not needed here');
  },
  score: (answer, example) => {
    const strict = /#### (\d+)/.exec(answer)?.[1];
    const flexible = answer.match(/\d+/g)?.at(-1);
    return {
      strictExtraction: strict,
      flexibleExtraction: flexible,
      strict: strict === example.gold,
      flexible: flexible === example.gold,
      followsFormat: strict !== undefined,
    };
  },
};

const examples: Example[] = Array.from({ length: 5 }, (_, index) => ({
  id: `q${index}`,
  question: `What is ${index} + 1?`,
  solution: `${index} + 1 = ${index + 1}\n#### ${index + 1}`,
  gold: String(index + 1),
}));

const answerOf = (prompt: string): string => {
  const number = Number(/What is (\d+)/.exec(prompt)?.[1]);
  if (number === 0) return '#### 1';
  if (number === 1) return 'It is 2';
  if (number === 2) return '#### 7';
  return number === 3 ? 'x'.repeat(200) : 'no idea';
};

const setUp = (options: Partial<FakeEngineOptions> = {}) => {
  const { tokenizer, template, endToken } = byteTokenizer();
  const engine = fakeEngine({ tokenizer, endToken, answer: answerOf, ...options });
  const sampling = { maximumTokens: 40, temperature: 0, topP: 1, seed: 7 };
  const answererWith = (changed: Partial<typeof sampling> = {}, modelHash = 'weights-a') =>
    engineAnswerer({ engine, tokenizer, template, endTokens: [endToken], modelHash, sampling: { ...sampling, ...changed }, chunkSize: 2 });
  return { engine, tokenizer, template, endToken, answererWith };
};

describe('evaluate', () => {
  it('asks without priming, scores both ways and keeps each answer', async (t) => {
    const file = await fileFor(t);
    const { engine, tokenizer, answererWith } = setUp();
    const progress: number[] = [];
    const records = await evaluate({
      answerer: answererWith(),
      task,
      examples,
      file,
      onProgress: ({ doneCount }) => progress.push(doneCount),
    });
    // the prompt is the student's: question, instruction, nothing else, in the model's own template
    assert.equal(
      tokenizer.decode(engine.calls.samples[0]?.[0]?.tokens ?? []),
      '<|im_start|>user\nWhat is 0 + 1?\n\nEnd with #### and the number.<|im_end|>\n<|im_start|>assistant\n',
    );
    assert.deepEqual(
      records.map(({ id, strict, flexible, followsFormat, finishReason }) => [id, strict, flexible, followsFormat, finishReason]),
      [
        ['q0', true, true, true, 'stop'],
        ['q1', false, true, false, 'stop'],
        ['q2', false, false, true, 'stop'],
        ['q3', false, false, false, 'length'],
        ['q4', false, false, false, 'stop'],
      ],
    );
    const first = records[0];
    assert.equal(first?.text, '#### 1', 'the end token is no part of the text');
    assert.equal(first?.tokenCount, 7, 'six bytes and the end token');
    assert.equal(first?.questionHash, createHash('sha256').update('What is 0 + 1?').digest('hex'));
    assert.equal(records[3]?.tokenCount, 40);
    assert.equal(records[4]?.strictExtraction, null);
    assert.deepEqual(progress, [0, 1, 2, 3, 4, 5], 'told of each answer as it comes');
    assert.deepEqual(await readAnswerRecords(file), records);
  });

  it('continues after a failure: what was answered is neither lost nor asked again, and the file ends the same', async (t) => {
    const whole = await fileFor(t);
    const torn = await fileFor(t);
    await evaluate({ answerer: setUp().answererWith(), task, examples, file: whole });
    const failing = setUp({
      answer: (prompt) => {
        if (prompt.includes('What is 2')) throw new Error('power cut');
        return answerOf(prompt);
      },
    });
    await assert.rejects(evaluate({ answerer: failing.answererWith(), task, examples, file: torn }), /power cut/);
    await appendFile(torn, '{"id":"q2","questi'); // the line that was being written when the process was killed
    const { engine, answererWith } = setUp();
    const records = await evaluate({ answerer: answererWith(), task, examples, file: torn });
    assert.equal(engine.calls.samples.flat().length, 3);
    assert.deepEqual(
      records.map(({ id }) => id),
      examples.map(({ id }) => id),
    );
    assert.equal(await readFile(torn, 'utf8'), await readFile(whole, 'utf8'));
  });

  it('stops between chunks when told to, and keeps what it has', async (t) => {
    const file = await fileFor(t);
    const controller = new AbortController();
    const { answererWith } = setUp();
    const stopping = evaluate({
      answerer: answererWith(),
      task,
      examples,
      file,
      signal: controller.signal,
      onProgress: ({ doneCount }) => doneCount === 2 && controller.abort(new Error('stopped by the user')),
    });
    await assert.rejects(stopping, /stopped by the user/);
    assert.equal((await readAnswerRecords(file)).length, 2);
  });

  it('never mixes in answers of other weights, sampling, prompts or questions', async (t) => {
    const file = await fileFor(t);
    const { answererWith } = setUp();
    await evaluate({ answerer: answererWith(), task, examples, file });
    const again = (answerer = answererWith(), other: Partial<{ task: Task; examples: Example[] }> = {}) =>
      evaluate({ answerer, task, examples, file, ...other });
    await assert.rejects(again(answererWith({}, 'weights-b')), /5 to other prompts, by other weights or with other sampling \(first q0\)/);
    await assert.rejects(again(answererWith({ maximumTokens: 41 })), /5 to other prompts/);
    await assert.rejects(again(answererWith({ seed: 8 })), /5 to other prompts/);
    await assert.rejects(again(undefined, { task: { ...task, instruction: 'Think.' } }), /5 to other prompts/);
    await assert.rejects(again(undefined, { examples: examples.slice(0, 3) }), /2 to questions that are not asked now \(first q3\)/);
    await assert.rejects(again(undefined, { examples: [...examples, examples[0] as Example] }), /Two test questions have the id "q0"/);
    assert.equal((await again()).length, 5);
  });

  it('gives each question a random stream that depends on the seed and its id alone', async (t) => {
    const streams = async (order: Example[], seed: number) => {
      const { engine, answererWith } = setUp();
      await evaluate({ answerer: answererWith({ temperature: 1, seed }), task, examples: order, file: await fileFor(t) });
      const seeds = engine.calls.samples.flat().map(({ seed }) => seed);
      return new Map(order.map(({ id }, index) => [id, seeds[index]]));
    };
    const forwards = await streams(examples, 1);
    assert.deepEqual(new Map([...(await streams([...examples].reverse(), 1))].reverse()), forwards);
    assert.equal(new Set(forwards.values()).size, 5);
    assert.notDeepEqual(await streams(examples, 2), forwards);
  });

  it('measures a teacher like a student, and keeps the answers that came before it failed', async (t) => {
    const file = await fileFor(t);
    const sampling = { maximumTokens: 40, temperature: 0, topP: 1, seed: 0 };
    const teacherThat = (isFailing: boolean) => ({
      identity: { kind: 'fake', model: 'm' },
      concurrency: 2,
      generate: async ({ messages, exampleId }: { messages: readonly { content: string }[]; exampleId: string }) => {
        if (isFailing && exampleId === 'q3') throw new Error('503');
        const usage = { promptTokens: 9, completionTokens: 4 };
        return { text: answerOf(messages[0]?.content ?? ''), finishReason: 'stop' as const, usage };
      },
      release: async () => undefined,
    });
    await assert.rejects(evaluate({ answerer: teacherAnswerer(teacherThat(true), sampling), task, examples, file }), /503/);
    const kept = await readAnswerRecords(file);
    assert.ok(kept.length >= 3 && kept.every(({ id }) => id !== 'q3'));
    const records = await evaluate({ answerer: teacherAnswerer(teacherThat(false), sampling), task, examples, file });
    assert.deepEqual(
      records.map(({ strict }) => strict),
      [true, false, false, false, false],
    );
    assert.equal(records[0]?.promptTokenCount, 9);
    assert.equal(records[0]?.tokens, null);
  });
});

describe('evaluateLikelihood', () => {
  it('sums over the solution and the end of its turn, and nothing of the prompt', async (t) => {
    const file = await fileFor(t);
    const { engine, tokenizer, template } = setUp({ loss: () => 0.5 });
    const options = { engine, tokenizer, template, modelHash: 'a', task, examples, file, chunkSize: 2 };
    const records = await evaluateLikelihood(options);
    for (const [index, record] of records.entries()) {
      // one token a byte, and <|im_end|>
      const tokenCount = (examples[index]?.solution.length ?? 0) + 1;
      assert.equal(record.tokenCount, tokenCount);
      assert.equal(record.logLikelihood, -0.5 * tokenCount);
    }
    assert.deepEqual(await evaluateLikelihood(options), records, 'done already');
    await assert.rejects(evaluateLikelihood({ ...options, modelHash: 'b' }), /other weights/);
  });

  it('says where the context cut a solution, and refuses where it leaves nothing of one', async (t) => {
    // the prompt has 64 tokens, the solution 16 and the end of its turn
    const options = { modelHash: 'a', task, examples: examples.slice(0, 1) };
    const short = setUp({ contextLength: 70 });
    const [record] = await evaluateLikelihood({ ...options, ...short, file: await fileFor(t) });
    assert.equal(record?.isTruncated, true);
    const shorter = setUp({ contextLength: 50 });
    await assert.rejects(
      evaluateLikelihood({ ...options, ...shorter, file: await fileFor(t) }),
      /q0 alone fills the model's context of 50/,
    );
  });
});

describe('scoreAnswers', () => {
  const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  const answers = examples.map(({ id, gold }) => ({ id, text: `#### ${gold}`, model: 'somebody’s' }));

  it('scores answers from elsewhere in any order, whatever other fields they have', async (t) => {
    const file = await fileFor(t);
    await writeFile(
      file,
      lines(
        [
          { id: 'q0', text: 'it is 1', finishReason: 'length', tokenCount: 3 },
          { id: 'q1', answer: '#### 2' },
          ...answers.slice(2),
        ].reverse(),
      ),
    );
    const scored = await scoreAnswers({ file, task, examples });
    assert.deepEqual(
      scored.map(({ id, strict, flexible }) => [id, strict, flexible]),
      [
        ['q0', false, true],
        ['q1', true, true],
        ['q2', true, true],
        ['q3', true, true],
        ['q4', true, true],
      ],
    );
    assert.equal(scored[0]?.finishReason, 'length');
    assert.equal(scored[1]?.finishReason, undefined);
  });

  it('refuses missing, unknown, doubled and shapeless answers, with counts and lines', async (t) => {
    const file = await fileFor(t);
    const rejects = async (text: string, pattern: RegExp) => {
      await writeFile(file, text);
      await assert.rejects(scoreAnswers({ file, task, examples }), pattern);
    };
    await rejects(lines(answers.slice(2)), /2 of 5 questions have no answer \("q0", "q1"\)/);
    await rejects(lines([...answers, { id: 'q9', text: '' }]), /1 answers belong to no question \("q9"\)/);
    await rejects(lines([...answers, { id: 'q1', text: '' }]), /answers\.jsonl:6: a second answer to question "q1"/);
    await rejects(lines([{ id: 'q0', texts: 'x' }]), /answers\.jsonl:1: .*Is "texts" the text\?/);
    await rejects(`${lines(answers)}{"id":`, /answers\.jsonl:6: the last line is not whole/);
    await rejects(lines([{ id: 'q0', text: 'x', answer: 'y' }]), /which is the answer, text or answer\?/);
    await rejects('[]\n', /expected \{"id"/);
  });
});
