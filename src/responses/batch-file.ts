import { dirname, extname, join } from 'node:path';
import { z } from 'zod';
import { systemClock } from '../base/clock.ts';
import { makeFolder, ownerOnly, writeFileAtomic } from '../base/folders.ts';
import { readJsonLines } from '../base/json-lines.ts';
import { type ChatCompletionSettings, chatCompletionBody, parseChatCompletion } from '../teachers/chat-completion.ts';
import { teacherErrorOf } from '../teachers/provider-failure.ts';
import { redactor } from '../teachers/redact.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import type { Asked } from './ask.ts';
import type { CollectOptions } from './collect-options.ts';
import { type PlannedAnswer, planCollection } from './collection-plan.ts';
import { responseOf } from './response-of.ts';
import { isOpen, openResponseStore } from './response-store.ts';

/**
 * What a provider takes in one file: OpenAI's limits, 50,000 requests and 200 MB. vLLM's `run-batch` reads the same lines and has none.
 */
export interface BatchLimits {
  readonly requestCount: number;
  readonly sizeBytes: number;
}

export const openAiBatchLimits: BatchLimits = { requestCount: 50_000, sizeBytes: 200_000_000 };

/** What a batch is made from: a collection that nobody is asked for. */
export type BatchOptions = Omit<
  CollectOptions,
  'teacher' | 'concurrency' | 'retries' | 'limits' | 'budget' | 'signal' | 'graceMs' | 'onProgress'
> & {
  /** `openAiCompatibleProfile(…).identity`: answers get the keys that asking the same server would give them. */
  readonly teacher: Pick<CollectOptions['teacher'], 'identity'>;
};

export interface WrittenBatch {
  readonly files: readonly string[];
  readonly requestCount: number;
}

/**
 * Writes the requests for all questions without an answer as lines of OpenAI's batch interface, `NAME.jsonl`, or `NAME-1.jsonl`, `NAME-2.jsonl` …
 * where one file would be over the limits. Nothing is sent.
 */
export const writeBatchFiles = async (
  file: string,
  settings: ChatCompletionSettings,
  options: BatchOptions,
  limits: BatchLimits = openAiBatchLimits,
): Promise<WrittenBatch> => {
  const open = await openRequests(options);
  const lines = open.map((item) =>
    JSON.stringify({
      custom_id: item.requestKey,
      method: 'POST',
      url: '/v1/chat/completions',
      body: chatCompletionBody({ messages: item.messages(), sampling: item.sampling }, settings),
    }),
  );
  const parts = splitLines(lines, limits);
  const extension = extname(file);
  const stem = file.slice(0, file.length - extension.length);
  await makeFolder(dirname(file));
  const files = parts.map((_, index) => (parts.length === 1 ? file : `${stem}-${index + 1}${extension}`));
  for (const [index, part] of parts.entries())
    await writeFileAtomic(files[index] ?? join(stem, String(index)), `${part.join('\n')}\n`, { mode: ownerOnly });
  return { files, requestCount: open.length };
};

/** What became of the lines of a batch's output. */
export interface ReadBatch {
  /** Answers that are in the store now and were not before. */
  readonly newCount: number;
  /** Answers that were there already. */
  readonly knownCount: number;
  /** Requests that the batch did not answer, by what it said; they stay open and go into the next file. */
  readonly failures: Readonly<Record<string, number>>;
  /** Lines of requests that this collection does not have: of another config, or of other questions. */
  readonly strangeCount: number;
  /** Requests that are still without an answer. */
  readonly openCount: number;
}

/** Reads a batch's output (or error) file into a folder of answers, joined by `custom_id`, in whatever order the lines come. */
export const readBatchFile = async (file: string, options: BatchOptions): Promise<ReadBatch> => {
  const planned = new Map(planCollection(options).map((item) => [item.requestKey, item]));
  const store = await openResponseStore(options.folder);
  const failures: Record<string, number> = {};
  let newCount = 0;
  let knownCount = 0;
  let strangeCount = 0;
  try {
    for await (const { line, value } of readJsonLines(file)) {
      const parsed = outputLine.safeParse(value);
      const item = planned.get(parsed.data?.custom_id ?? '');
      if (!parsed.success || item === undefined) {
        strangeCount++;
        continue;
      }
      if (!isOpen(store.answers.get(item.requestKey))) {
        knownCount++;
        continue;
      }
      const asked = askedOf(parsed.data, `${file}:${line}`);
      if (asked.outcome === 'unanswered') failures[asked.problem.message] = (failures[asked.problem.message] ?? 0) + 1;
      else {
        await store.append(responseOf(item, item.messages(), asked, options, options.clock ?? systemClock));
        newCount++;
      }
    }
    const openCount = [...planned.keys()].filter((key) => isOpen(store.answers.get(key))).length;
    return { newCount, knownCount, failures, strangeCount, openCount };
  } finally {
    await store.close();
  }
};

const outputLine = z.object({
  custom_id: z.string(),
  response: z.object({ status_code: z.number(), body: z.unknown() }).nullish(),
  error: z.object({ code: z.string().nullish(), message: z.string().nullish() }).nullish(),
});

/** A line of the output as if the request had been sent by itself. */
const askedOf = ({ response, error }: z.infer<typeof outputLine>, where: string): Asked => {
  const tries = { tryCount: 1, latencyMs: 0, wastedUsage: undefined, assumedUsage: undefined };
  const answer = response?.status_code === 200 ? parseChatCompletion(response.body) : undefined;
  if (answer !== undefined) return { outcome: 'answered', answer, ...tries };
  const problem =
    response === undefined || response === null
      ? new TeacherError(`The batch did not answer: ${error?.message ?? error?.code ?? 'no reason given'}.`, { retry: 'later' })
      : teacherErrorOf(
          { status: response.status_code, body: JSON.stringify(response.body) ?? '', message: '' },
          where.replace(/:\d+$/, ''),
          redactor([]),
          0,
        );
  const isRefused = problem.advice.retry === 'never' && problem.advice.scope === 'question';
  return { outcome: isRefused ? 'refused' : 'unanswered', problem, ...tries };
};

/** What a batch would ask: questions without an answer. */
const openRequests = async (options: BatchOptions): Promise<PlannedAnswer[]> => {
  const store = await openResponseStore(options.folder);
  try {
    return planCollection(options).filter(({ requestKey }) => isOpen(store.answers.get(requestKey), options.retryFailed));
  } finally {
    await store.close();
  }
};

/** As few parts as the limits allow, lines in their order. */
const splitLines = (lines: readonly string[], { requestCount, sizeBytes }: BatchLimits): string[][] => {
  const parts: string[][] = [];
  let partBytes = Number.POSITIVE_INFINITY;
  for (const line of lines) {
    const lineBytes = Buffer.byteLength(line) + 1;
    const part = parts.at(-1);
    if (part === undefined || part.length >= requestCount || partBytes + lineBytes > sizeBytes) {
      parts.push([line]);
      partBytes = lineBytes;
    } else {
      part.push(line);
      partBytes += lineBytes;
    }
  }
  return parts;
};
