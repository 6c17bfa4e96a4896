import { existsSync } from 'node:fs';
import { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';
import { appendJsonLines, readJsonLines } from '../base/json-lines.ts';
import { randomFrom } from '../base/random.ts';
import { withoutEmpty } from '../data/data-row.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readRows } from '../data/read-rows.ts';
import type { AnswerSampling } from '../evaluation/answerer.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { ChatMessage } from '../text/chat-message.ts';
import { rowOfLine } from '../text/training-lines.ts';
import { promptTokens } from '../text/training-row.ts';
import type { LocalModel } from './local-model.ts';
import type { StageProgress } from './surroundings.ts';

/** A line of prompts: a conversation, or a raw text that is continued without any template. With a completion it is scored, not continued. */
export type Prompt = { readonly id: string; readonly where: string } & (
  | { readonly messages: readonly ChatMessage[]; readonly completion: string | undefined }
  | { readonly prompt: string; readonly completion: string | undefined }
);

/** What became of a prompt: a line of the output. */
export interface Completion {
  readonly id: string;
  readonly completion: string;
  /** Token ids, the end token among them. */
  readonly tokens: readonly number[];
  /** `given`: the completion stood in the input. */
  readonly finishReason: 'stop' | 'length' | 'given';
  /** log p of each token at temperature 1, before any truncation of the distribution; where they were asked for. */
  readonly logProbabilities?: readonly number[];
  /** Hash of all that decides it. */
  readonly requestHash: string;
}

export interface GenerateOptions {
  readonly model: LocalModel;
  /** Rows {"messages": […]} or {"prompt": "raw text"}, each with an `id` if wanted; with "completion" to have that one scored. */
  readonly input: string;
  /** What the split is called, where the input is a folder or on the hub; `test` when absent. */
  readonly split?: string;
  readonly access?: DataAccess;
  /** Completions are appended here as they come; a call that finds some of them continues. */
  readonly output: string;
  readonly sampling: AnswerSampling;
  readonly logProbabilities: boolean;
  readonly batchSize?: number;
  readonly onProgress?: (progress: StageProgress) => void;
  readonly signal?: AbortSignal;
}

export interface GenerateReport {
  readonly output: string;
  readonly promptCount: number;
  /** Of this call; the others were there. */
  readonly newCount: number;
  readonly tokenCount: number;
  /** Cut off by the token limit, of this call. */
  readonly truncatedCount: number;
}

/** Completes (or scores) every prompt of a file. Each has a random stream that follows from the seed and its id alone. */
export const generate = async (options: GenerateOptions): Promise<GenerateReport> => {
  const { model, input, split, access, output, sampling, logProbabilities, batchSize, onProgress, signal } = options;
  const planned = (await readPrompts(input, split, access)).map((prompt) => plan(prompt, model, sampling, logProbabilities));
  const done = await readDone(output, new Map(planned.map(({ prompt, requestHash }) => [prompt.id, requestHash])));
  const open = planned.filter(({ prompt }) => !done.has(prompt.id));
  const appender = await appendJsonLines(output);
  const counts = { newCount: 0, tokenCount: 0, truncatedCount: 0 };
  const report = (): void =>
    onProgress?.({ doneCount: done.size + counts.newCount, totalCount: planned.length, tokenCount: counts.tokenCount });
  const saved: Promise<void>[] = [];
  const keep = (completion: Completion): void => {
    counts.newCount += 1;
    counts.tokenCount += completion.tokens.length;
    counts.truncatedCount += Number(completion.finishReason === 'length');
    saved.push(appender.append(completion));
    // awaited below; until then a full disk must not count as unhandled
    saved.at(-1)?.catch(() => undefined);
    report();
  };
  try {
    report();
    await score(open, options, keep);
    const asked = open.filter(({ prompt }) => prompt.completion === undefined);
    await model.engine.sample(
      asked.map(({ tokens, prompt }) => ({ tokens, seed: randomFrom(sampling.seed, 'generate', prompt.id).integer(2 ** 32) })),
      { ...sampling, endTokens: model.text.endTokens, ...(batchSize !== undefined && { batchSize }) },
      {
        onSample: (index, sample) => {
          const request = asked[index];
          if (request === undefined) return;
          keep({
            id: request.prompt.id,
            completion: model.text.tokenizer.decode(sample.tokens, { skipSpecialTokens: true }),
            tokens: sample.tokens,
            finishReason: sample.finishReason,
            ...(logProbabilities && { logProbabilities: sample.logProbabilities }),
            requestHash: request.requestHash,
          });
        },
        ...(signal !== undefined && { signal }),
      },
    );
  } finally {
    await Promise.all(saved);
    await appender.close();
  }
  return { output, promptCount: planned.length, ...counts };
};

interface PlannedPrompt {
  readonly prompt: Prompt;
  /** Of the prompt; with a given completion, of both. */
  readonly tokens: readonly number[];
  /** Tokens of a given completion begin here. */
  readonly completionStart: number;
  readonly requestHash: string;
}

const plan = (prompt: Prompt, { text, hash, engine }: LocalModel, sampling: AnswerSampling, logProbabilities: boolean): PlannedPrompt => {
  const { tokenizer, template } = text;
  const { where, completion } = prompt;
  const about = { model: hash, template: template.hash, logProbabilities };
  if (completion === undefined) {
    const tokens =
      'messages' in prompt
        ? promptTokens(template, tokenizer, prompt.messages)
        : [...tokenizer.rawPrefix, ...tokenizer.encode(prompt.prompt)];
    if (tokens.length === 0) throw new UserError(`${where}: the prompt is empty.`);
    const longest = engine.information.contextLength - sampling.maximumTokens;
    if (tokens.length > longest) {
      throw new UserError(
        `${where}: the prompt has ${tokens.length} tokens and ${sampling.maximumTokens} more are wanted; the model's context holds ${engine.information.contextLength}. Shorten the prompt or ask for fewer tokens.`,
      );
    }
    return { prompt, tokens, completionStart: tokens.length, requestHash: hashOf({ ...about, tokens, sampling: { ...sampling } }) };
  }
  const line =
    'messages' in prompt
      ? ({ kind: 'conversation', messages: [...prompt.messages, { role: 'assistant', content: completion }], where } as const)
      : ({ kind: 'completion', prompt: prompt.prompt, completion, where } as const);
  const row = rowOfLine(template, tokenizer, line, { maximumLength: engine.information.contextLength, turns: 'last' });
  if (row === undefined || row.isTruncated) {
    throw new UserError(
      `${where}: prompt and completion do not fit into the model's context of ${engine.information.contextLength} tokens.`,
    );
  }
  return {
    prompt,
    tokens: row.tokens,
    completionStart: row.promptTokenCount,
    requestHash: hashOf({ ...about, tokens: [...row.tokens], start: row.promptTokenCount }),
  };
};

/** Log-probabilities of the completions that were given, a chunk at a time so that what is done is kept. */
const score = async (
  open: readonly PlannedPrompt[],
  { model, signal }: GenerateOptions,
  keep: (completion: Completion) => void,
): Promise<void> => {
  const chunkSize = 16;
  const given = open.filter(({ prompt }) => prompt.completion !== undefined);
  for (let start = 0; start < given.length; start += chunkSize) {
    signal?.throwIfAborted();
    const chunk = given.slice(start, start + chunkSize);
    const scores = await model.engine.score(chunk.map(({ tokens }) => ({ tokens })));
    for (const [index, { prompt, tokens, completionStart, requestHash }] of chunk.entries()) {
      keep({
        id: prompt.id,
        completion: prompt.completion ?? '',
        tokens: tokens.slice(completionStart),
        finishReason: 'given',
        logProbabilities: [...(scores[index]?.logProbabilities.subarray(completionStart) ?? [])],
        requestHash,
      });
    }
  }
};

const messageSchema = z.strictObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string() });
const promptSchema = z.looseObject({
  id: z.union([z.string().min(1), z.int()]).optional(),
  messages: z.array(messageSchema).min(1).optional(),
  prompt: z.string().optional(),
  completion: z.string().optional(),
});

/** The prompts of data in any form that `readRows` reads. Errors name file and line. Ids that are not given are the lines' numbers. */
export const readPrompts = async (source: string, split = 'test', access?: DataAccess): Promise<Prompt[]> => {
  const prompts: Prompt[] = [];
  const placeOf = new Map<string, string>();
  for await (const { where, number, value } of readRows(source, { split, what: 'generating', access })) {
    const parsed = promptSchema.safeParse(withoutEmpty(value));
    if (!parsed.success) throw new UserError(`${where}: not a prompt: ${z.prettifyError(parsed.error).replaceAll('\n', ' ')}`);
    const { messages, prompt, completion } = parsed.data;
    const id = String(parsed.data.id ?? number);
    const earlier = placeOf.get(id);
    if (earlier !== undefined) throw new UserError(`${where}: the id "${id}" was used at ${earlier} already. Ids must be unique.`);
    placeOf.set(id, where);
    if ((messages === undefined) === (prompt === undefined)) {
      const keys = Object.keys(parsed.data);
      const near = keys.flatMap((key) => nearestName(key, ['messages', 'prompt']) ?? [])[0];
      const hint = messages === undefined && near !== undefined ? ` Did you mean "${near}"?` : '';
      throw new UserError(
        `${where}: expected "messages" or "prompt", one of the two; came the keys ${keys.join(', ') || '(none)'}.${hint}`,
      );
    }
    prompts.push(messages !== undefined ? { id, where, messages, completion } : { id, where, prompt: prompt ?? '', completion });
  }
  if (prompts.length === 0) throw new UserError(`${source} has no prompts.`);
  return prompts;
};

const doneSchema = z.looseObject({ id: z.string(), requestHash: z.string() });

/** The ids that the output holds already. Completions of other prompts, weights or settings are an error, never mixed in. */
const readDone = async (output: string, wanted: ReadonlyMap<string, string>): Promise<Set<string>> => {
  const done = new Set<string>();
  if (!existsSync(output)) return done;
  for await (const { line, value } of readJsonLines(output)) {
    const parsed = doneSchema.safeParse(value);
    if (!parsed.success || wanted.get(parsed.data.id) !== parsed.data.requestHash) {
      throw new UserError(
        `${output}:${line}: this file holds something else than completions of these prompts by this model with these settings. Name another output, or move it away.`,
      );
    }
    done.add(parsed.data.id);
  }
  return done;
};
