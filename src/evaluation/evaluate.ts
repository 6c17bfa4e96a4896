import { existsSync } from 'node:fs';
import { UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { appendJsonLines } from '../base/json-lines.ts';
import type { Engine } from '../engines/engine.ts';
import { rowLimits } from '../engines/micro-batch.ts';
import { studentMessages } from '../priming/primed-messages.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { ChatMessage } from '../text/chat-message.ts';
import type { ChatTemplate } from '../text/chat-template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { trainingRow } from '../text/training-row.ts';
import { type AnswerRecord, type LikelihoodRecord, readAnswerRecords, readLikelihoodRecords } from './answer-record.ts';
import type { Answerer, GivenAnswer, Question } from './answerer.ts';

export interface EvaluationProgress {
  readonly doneCount: number;
  readonly totalCount: number;
  /** Tokens generated or scored by this call. */
  readonly tokenCount: number;
}

export interface EvaluateOptions {
  readonly answerer: Answerer;
  readonly task: Task;
  readonly examples: readonly Example[];
  /** Records are appended here as they come; a call that finds some of them continues. */
  readonly file: string;
  /** What is asked; absent: what the student was trained to be asked, `studentMessages`. */
  readonly messagesOf?: (example: Example) => readonly ChatMessage[];
  readonly onProgress?: (progress: EvaluationProgress) => void;
  /** Checked between chunks: what was answered is saved. */
  readonly signal?: AbortSignal;
}

/**
 * Has every example answered and scored, and keeps each answer for reading. Returns the records in the order of the examples. Answers in
 * the file that were given to another prompt, by other weights or with other sampling are an error, never mixed in.
 */
export const evaluate = async (options: EvaluateOptions): Promise<AnswerRecord[]> => {
  const { answerer, task, examples, file, onProgress, signal } = options;
  const messagesOf = options.messagesOf ?? ((example: Example) => studentMessages(example, task.instruction));
  const asked = examples.map((example) => {
    const question: Question = { id: example.id, question: example.question, messages: messagesOf(example) };
    const promptHash = answerer.promptHash(question);
    return { example, question, promptHash, requestHash: hashOf({ prompt: promptHash, ...copied(answerer.settings) }) };
  });
  const record = ({ example, promptHash, requestHash }: (typeof asked)[number], answer: GivenAnswer): AnswerRecord => ({
    id: example.id,
    question: example.question,
    questionHash: sha256(example.question),
    promptHash,
    requestHash,
    text: answer.text,
    tokens: answer.tokens === undefined ? null : [...answer.tokens],
    tokenCount: answer.tokenCount ?? null,
    promptTokenCount: answer.promptTokenCount ?? null,
    ...(answer.spent !== undefined && { spent: answer.spent }),
    finishReason: answer.finishReason,
    ...scoresOf(task, answer.text, example),
  });
  const work = {
    file,
    asked,
    chunkSize: answerer.chunkSize,
    read: readAnswerRecords,
    tokensOf: (done: AnswerRecord) => done.tokenCount ?? 0,
    onProgress,
    signal,
  };
  return fillFile(work, (chunk, onRow) =>
    answerer.answer(
      chunk.map(({ question }) => question),
      (index, answer) => {
        const one = chunk[index];
        if (one !== undefined) onRow(record(one, answer));
      },
      signal,
    ),
  );
};

/** The score fields of a record. */
export const scoresOf = (
  task: Task,
  text: string,
  example: Example,
): Pick<AnswerRecord, 'gold' | 'strictExtraction' | 'flexibleExtraction' | 'strict' | 'flexible' | 'followsFormat'> => {
  const score = task.score(text, example);
  return {
    gold: example.gold,
    strictExtraction: score.strictExtraction ?? null,
    flexibleExtraction: score.flexibleExtraction ?? null,
    strict: score.strict,
    flexible: score.flexible,
    followsFormat: score.followsFormat,
  };
};

export interface LikelihoodOptions {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** Hash of the weights: base and adapter. */
  readonly modelHash: string;
  readonly task: Task;
  readonly examples: readonly Example[];
  readonly file: string;
  /** Rows a call of the engine; 16 when absent. */
  readonly chunkSize?: number;
  readonly onProgress?: (progress: EvaluationProgress) => void;
  readonly signal?: AbortSignal;
}

/**
 * The log-likelihood of each example's gold solution (and its end of turn) after the student's prompt: a paired measure that still tells
 * arms apart where accuracy is near zero. In the order of the examples; resumes like `evaluate`.
 */
export const evaluateLikelihood = async (options: LikelihoodOptions): Promise<LikelihoodRecord[]> => {
  const { engine, tokenizer, template, modelHash, task, examples, file, chunkSize = 16, onProgress, signal } = options;
  const asked = examples.map((example) => {
    const rowOptions = { maximumLength: engine.information.contextLength, where: `test question ${example.id}` };
    const row = trainingRow(template, tokenizer, studentMessages(example, task.instruction), example.solution, rowOptions);
    if (row === undefined) {
      throw new UserError(
        `The question ${example.id} alone fills the model's context of ${rowOptions.maximumLength} tokens. Leave it out of the evaluation.`,
      );
    }
    return { example, row, requestHash: hashOf({ model: modelHash, tokens: [...row.tokens], weights: [...row.weights] }) };
  });
  const work = {
    file,
    asked,
    chunkSize,
    read: readLikelihoodRecords,
    tokensOf: (done: LikelihoodRecord) => done.tokenCount ?? 0,
    onProgress,
    signal,
  };
  const limits = rowLimits(asked.map(({ row }) => row));
  return fillFile(work, async (chunk, onRow) => {
    const rows = chunk.map(({ row }) => row);
    const sums = await engine.forward(rows, { name: 'cross-entropy' }, limits);
    for (const [index, { example, row, requestHash }] of chunk.entries()) {
      const loss = sums[index];
      if (loss === undefined) continue;
      onRow({
        id: example.id,
        questionHash: sha256(example.question),
        requestHash,
        logLikelihood: -loss.sum,
        tokenCount: loss.tokenCount,
        isTruncated: row.isTruncated,
      });
    }
  });
};

interface FileWork<Asked, Row> {
  readonly file: string;
  readonly asked: readonly Asked[];
  readonly chunkSize: number;
  readonly read: (path: string) => Promise<Row[]>;
  readonly tokensOf: (row: Row) => number;
  readonly onProgress: ((progress: EvaluationProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Does what the file does not hold yet, chunk by chunk, each saved before the next begins. */
const fillFile = async <
  Asked extends { readonly example: Example; readonly requestHash: string },
  Row extends { readonly id: string; readonly requestHash: string },
>(
  { file, asked, chunkSize, read, tokensOf, onProgress, signal }: FileWork<Asked, Row>,
  answer: (chunk: readonly Asked[], onRow: (row: Row) => void) => Promise<void>,
): Promise<Row[]> => {
  checkIds(asked.map(({ example }) => example.id));
  const done = new Map((existsSync(file) ? await read(file) : []).map((row) => [row.id, row]));
  checkSameRequests(file, done, asked);
  const missing = asked.filter(({ example }) => !done.has(example.id));
  let tokenCount = 0;
  onProgress?.({ doneCount: done.size, totalCount: asked.length, tokenCount });
  const appender = await appendJsonLines(file);
  try {
    for (let start = 0; start < missing.length; start += chunkSize) {
      signal?.throwIfAborted();
      const saved: Promise<void>[] = [];
      try {
        await answer(missing.slice(start, start + chunkSize), (row) => {
          done.set(row.id, row);
          tokenCount += tokensOf(row);
          saved.push(appender.append(row));
          // Awaited below; until then a full disk must not count as unhandled.
          saved.at(-1)?.catch(() => undefined);
          onProgress?.({ doneCount: done.size, totalCount: asked.length, tokenCount });
        });
      } finally {
        await Promise.all(saved);
      }
    }
  } finally {
    await appender.close();
  }
  return asked.map(({ example }) => {
    const row = done.get(example.id);
    if (row === undefined) throw new UserError(`No answer came for question ${example.id}. Run the same command again.`);
    return row;
  });
};

const checkIds = (ids: readonly string[]): void => {
  const seen = new Set<string>();
  for (const id of ids) {
    if (seen.has(id))
      throw new UserError(`Two test questions have the id ${JSON.stringify(id)}: answers are joined by it. Give each its own.`);
    seen.add(id);
  }
};

const checkSameRequests = (
  file: string,
  done: ReadonlyMap<string, { readonly requestHash: string }>,
  asked: readonly { readonly example: Example; readonly requestHash: string }[],
): void => {
  const expected = new Map(asked.map(({ example, requestHash }) => [example.id, requestHash]));
  const unknown = [...done.keys()].filter((id) => !expected.has(id));
  const other = [...done].filter(([id, row]) => expected.has(id) && expected.get(id) !== row.requestHash);
  if (unknown.length === 0 && other.length === 0) return;
  const parts = [
    ...(unknown.length > 0 ? [`${unknown.length} to questions that are not asked now (first ${unknown[0]})`] : []),
    ...(other.length > 0 ? [`${other.length} to other prompts, by other weights or with other sampling (first ${other[0]?.[0]})`] : []),
  ];
  throw new UserError(
    `${file} holds answers that do not belong to this evaluation: ${parts.join('; ')}. Move the file away, or evaluate into another.`,
  );
};

/** Readonly arrays as JSON values. */
const copied = (settings: Answerer['settings']): Record<string, string | number | number[]> =>
  Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [key, typeof value === 'string' || typeof value === 'number' ? value : [...value]]),
  );
