// Collects from a fault server until it is done, is killed, or fails: `node collect-child.ts '{"baseUrl", "folder", "count", …}'`.
import { inspect } from 'node:util';
import { strategies } from '../src/priming/strategies.ts';
import { type CollectOptions, collect } from '../src/responses/collect.ts';
import { gsm8k } from '../src/tasks/gsm8k.ts';
import type { Example } from '../src/tasks/task.ts';
import { anthropicTeacher } from '../src/teachers/anthropic.ts';
import { openAiCompatibleTeacher } from '../src/teachers/openai-compatible.ts';

export interface ChildOptions {
  readonly baseUrl: string;
  readonly folder: string;
  readonly count: number;
  readonly concurrency: number;
  readonly timeoutMs?: number;
  /** Asks in batches of so many. */
  readonly batch?: { readonly kind: 'openAi' | 'anthropic'; readonly requestCount: number };
}

export const childExamples = (count: number): Example[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `train/${index}`,
    question: `What is ${index} + 1?`,
    solution: `#### ${index + 1}`,
    gold: String(index + 1),
  }));

export const childPlan = (count: number) => ({
  examples: childExamples(count),
  task: gsm8k,
  strategy: strategies['teacher'] ?? strategies['none'],
  sampling: { maximumTokens: 64, temperature: 0.5, topP: 1, seed: 3 },
});

if (import.meta.main) {
  const { count, baseUrl, folder, concurrency, timeoutMs, batch }: ChildOptions = JSON.parse(process.argv[2] ?? '{}');
  const teacher = (batch?.kind === 'anthropic' ? anthropicTeacher : openAiCompatibleTeacher)({
    baseUrl,
    model: 'big',
    concurrency,
    environment: process.env,
    apiKeyVariable: process.env['RETORT_TEST_KEY'] === undefined ? undefined : 'RETORT_TEST_KEY',
    timeoutMs,
  });
  const retries = { firstWaitMs: 5, longestWaitMs: 50, maximumTries: 12, maximumFirstTries: 12 };
  const say = (value: unknown): void => console.log(JSON.stringify(value));
  try {
    const options = {
      ...childPlan(count),
      teacher,
      folder,
      retries,
      onProgress: say,
      onWarning: say,
      ...(batch && { batch: { pollMs: 5, requestCount: batch.requestCount } }),
    };
    say(await collect(options as CollectOptions));
  } catch (thrown) {
    // Everything that an error carries, as --debug and more would show it.
    console.error(inspect(thrown, { depth: 10, showHidden: true }));
    process.exitCode = 1;
  } finally {
    await teacher.release();
  }
}
