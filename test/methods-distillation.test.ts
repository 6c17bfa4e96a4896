import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { UserError } from '../src/base/errors.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import type { Engine } from '../src/engines/engine.ts';
import { fineTune } from '../src/methods/fine-tune.ts';
import { teacherLogitsOf } from '../src/methods/local-teacher.ts';
import { run } from '../src/methods/stages.ts';
import type { ChatMessage } from '../src/text/chat-message.ts';
import { loadModelText } from '../src/text/model-text.ts';
import { type TrainingRow, trainingRow } from '../src/text/training-row.ts';
import { assertClose } from './golden/compare.ts';
import { openToyEngine, toySettings } from './toy-fine-tune.ts';
import { toyConfig, writeToyModel } from './toy-model.ts';

const root = await mkdtemp(join(tmpdir(), 'retort-distillation-'));
after(() => rm(root, { recursive: true, force: true }));

const vocabularySize = toyConfig.vocab_size;
const question: ChatMessage[] = [{ role: 'user', content: '2+3' }];
const primed: ChatMessage[] = [{ role: 'user', content: 'Be brief, and explain.\n\n2+3' }];
const answers = ['It is 5.', 'Five', '5'];

let folder = '';
let teacher: Engine;
before(async () => {
  folder = await writeToyModel(join(root, 'model'));
  teacher = await openTeacher(folder);
});
after(() => teacher.release());

const openTeacher = (modelFolder: string): Promise<Engine> =>
  createEngine({
    ...{ modelFolder, initialisation: { from: 'folder' }, parameters: { kind: 'none' } },
    ...{ precision: 'float32', device: 'cpu', layout: 'thread', threadCount: 1 },
  });

const rowOf = async (messages: readonly ChatMessage[], answer: string): Promise<TrainingRow> => {
  const { template, tokenizer } = await loadModelText(folder);
  return trainingRow(template, tokenizer, messages, answer, { maximumLength: 200, where: 'test' }) ?? assert.fail('no row');
};

const logitsOf = async (messages: readonly ChatMessage[], answer: string) =>
  teacherLogitsOf({
    teacher: { engine: teacher, text: await loadModelText(folder) },
    ...{ messages, answer, studentRow: await rowOf(question, answer), studentVocabularySize: vocabularySize, where: 'test' },
  });

/** One step on all answers with a student that is the teacher with an untrained adapter: what metrics.jsonl says of it. */
const firstStep = async (name: string, alpha: number, temperature: number, messages: readonly ChatMessage[]) => {
  const engine = await openToyEngine(folder, 1);
  try {
    await fineTune({
      engine,
      rows: await Promise.all(answers.map((answer) => rowOf(question, answer))),
      settings: { ...toySettings, epochs: 1, loss: { name: 'distillation', alpha, temperature } },
      ...{ seed: 1, key: name, checkpoints: join(root, name, 'checkpoints'), metrics: join(root, name, 'metrics.jsonl') },
      teacherLogits: async (index) => logitsOf(messages, answers[index] ?? ''),
    });
  } finally {
    await engine.release();
  }
  const [line]: { loss: number; terms: Record<string, number>; gradientNorm: number }[] = (
    await readFile(join(root, name, 'metrics.jsonl'), 'utf8')
  )
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text));
  return line ?? assert.fail('no step');
};

describe("the teacher's logits", () => {
  it('are those that predict the answer’s tokens, under what the teacher was asked', async () => {
    const answer = answers[0] ?? '';
    const row = await rowOf(primed, answer);
    const [score] = await teacher.score([{ tokens: row.tokens, logitPositions: row.tokens.map((_, position) => position) }]);
    const expected = row.weights.flatMap((weight, position) =>
      weight === 0 ? [] : [...(score?.logits?.slice((position - 1) * vocabularySize, position * vocabularySize) ?? [])],
    );
    // The answer's eight bytes and the end of the turn.
    assert.equal(expected.length, 9 * vocabularySize);
    assertClose(await logitsOf(primed, answer), expected, 1e-5, 'logits');
    // And they are others than without the priming.
    const unprimed = await logitsOf(question, answer);
    assert.ok(unprimed.some((value, index) => Math.abs(value - (expected[index] ?? 0)) > 0.01));
  });

  it('of another vocabulary are refused', async () => {
    const other = await openTeacher(await writeToyModel(join(root, 'larger'), { config: { vocab_size: 300 } }));
    try {
      const query = { messages: question, answer: '5', studentRow: await rowOf(question, '5'), studentVocabularySize: vocabularySize };
      await assert.rejects(
        teacherLogitsOf({ teacher: { engine: other, text: await loadModelText(join(root, 'larger')) }, ...query, where: 'test' }),
        (error: unknown) => error instanceof UserError && /has 300 words and the student 258.*one tokenizer/.test(error.message),
      );
    } finally {
      await other.release();
    }
  });

  it('of other tokens are refused', async () => {
    const query = { messages: question, answer: 'Six', studentRow: await rowOf(question, 'Five'), studentVocabularySize: vocabularySize };
    await assert.rejects(
      teacherLogitsOf({ teacher: { engine: teacher, text: await loadModelText(folder) }, ...query, where: 'arm none, q1' }),
      (error: unknown) =>
        error instanceof UserError &&
        /^arm none, q1: the teacher's tokens of the answer \(4\) are not the student's \(5\)/.test(error.message),
    );
  });
});

describe('distillation', () => {
  it('of a student that is its teacher, asked the same, has no divergence and no gradient', async () => {
    const { terms, gradientNorm, loss } = await firstStep('same', 0, 2, question);
    // Both are 0 by definition; float32 logits of size 5 leave 1e-6 of each.
    assertClose([terms['forward-kl'] ?? 1, loss, gradientNorm], [0, 0, 0], 1e-5, 'KL, loss, gradient');
    assert.ok((terms['cross-entropy'] ?? 0) > 1);
  });

  it('of a primed teacher has both; the loss is α·CE + (1−α)·T²·KL', async () => {
    const { terms, gradientNorm, loss } = await firstStep('primed', 0.3, 2, primed);
    const [hard = 0, soft = 0] = [terms['cross-entropy'], terms['forward-kl']];
    assert.ok(soft > 1e-3 && gradientNorm > 1e-3, `KL ${soft}, gradient ${gradientNorm}`);
    assertClose([loss], [0.3 * hard + 0.7 * 4 * soft], 1e-6 * loss, 'loss');
    // KL by its definition, from the logits of both: mean over the answers' tokens.
    let sum = 0;
    let count = 0;
    for (const answer of answers) {
      const [left, right] = [await logitsOf(primed, answer), await logitsOf(question, answer)];
      for (let start = 0; start < left.length; start += vocabularySize) {
        const [p, q] = [left, right].map((logits) => logSoftmax(logits.subarray(start, start + vocabularySize), 2));
        sum += p?.reduce((total, value, index) => total + Math.exp(value) * (value - (q?.[index] ?? 0)), 0) ?? 0;
        count++;
      }
    }
    assertClose([soft], [sum / count], 1e-5, 'KL(teacher ‖ student)');
  });

  it('is what a run does where its config asks for it, in the search too', { timeout: 120_000 }, async () => {
    const lines = [1, 2, 3, 4, 5, 6].map((number) => JSON.stringify({ question: `${number}+1`, answer: String(number + 1) }));
    await writeFile(join(root, 'questions.jsonl'), `${lines.join('\n')}\n`);
    await writeFile(join(root, 'others.jsonl'), lines.map((line) => `${line.replace('+1', '+1+0')}\n`).join(''));
    const files = { train: 'questions.jsonl', test: 'others.jsonl' };
    const config = {
      name: 'distilled',
      task: { name: 'jsonl', files, train: { limit: 4 }, development: { limit: 2 }, test: { limit: 2 } },
      teacher: { kind: 'local', model: 'model' },
      student: { model: 'model', parameters: { kind: 'lora', rank: 2, alpha: 4 } },
      training: { loss: { name: 'distillation', alpha: 0.5 }, rowsPerStep: 2 },
      search: { learningRate: [0.001, 0.01] },
      arms: ['gold', { shuffled: 'gold' }],
      evaluation: { maximumTokens: 4, teacher: false, likelihood: false },
      engine: { threadCount: 1 },
    };
    await writeFile(join(root, 'run.yaml'), stringify(config));
    const { summary, folder: output } = await run(join(root, 'run.yaml'), { output: join(root, 'run'), offline: true, environment: {} });
    assert.deepEqual(summary.unfinished, []);
    const arm = 'gold--lora-distillation--model--seed-0';
    assert.ok(summary.rows.some(({ name }) => name === arm));
    const first = (await readFile(join(output, 'students', arm, 'metrics.jsonl'), 'utf8'))
      .split('\n')
      .find((line) => line.includes('terms'));
    const { terms } = JSON.parse(first ?? '{}');
    // Teacher and student are one model asked the same: they agree until the first step.
    assertClose([terms['forward-kl']], [0], 1e-5, 'KL');
  });
});

const logSoftmax = (logits: Float32Array, temperature: number): number[] => {
  const scaled = Array.from(logits, (value) => value / temperature);
  const greatest = Math.max(...scaled);
  const logSum = greatest + Math.log(scaled.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
  return scaled.map((value) => value - logSum);
};
