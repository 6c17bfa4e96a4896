import { randomFrom, shuffled } from '../base/random.ts';
import { primingOf } from '../config/arm-config.ts';
import type { RunConfig } from '../config/run-config.ts';
import { primedMessages, studentMessages } from '../priming/primed-messages.ts';
import { findContamination } from '../responses/decontaminate.ts';
import { parseVariant } from '../run-folder/arm.ts';
import type { Json } from '../run-folder/manifest.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { ChatMessage } from '../text/chat-message.ts';
import type { ModelText } from '../text/model-text.ts';
import { promptTokens } from '../text/training-row.ts';

/** How an untouched student is asked where it is not asked as the arms are. */
export interface Asking {
  readonly messagesOf: (example: Example) => readonly ChatMessage[];
  /** For the record: which examples, which priming. */
  readonly facts: Readonly<Record<string, Json>>;
}

export interface AskingOptions {
  readonly variant: string;
  readonly config: RunConfig;
  readonly task: Task;
  readonly train: readonly Example[];
  readonly test: readonly Example[];
}

/** Under an arm's priming (`primed-NAME`), or after worked examples (`shots-K`). */
export const askingOf = ({ variant, config, task, train, test }: AskingOptions): Asking => {
  const parsed = parseVariant(variant);
  const arm = config.arms.find(({ name }) => parsed?.kind === 'primed' && name === parsed.source);
  const priming = arm && primingOf(arm);
  if (priming !== undefined)
    return {
      messagesOf: (example) => primedMessages(priming, example, task.instruction),
      facts: { priming: { ...priming } },
    };
  const { examples: count, seed } = config.evaluation.fewShots;
  const shots = shotExamples({ train, test, count, seed });
  return { messagesOf: (example) => shotMessages(shots, example, task.instruction), facts: { shots: shots.map(({ id }) => id) } };
};

/** Training questions with their solutions, drawn by a seed; those that share a run of words with a test question are passed over. */
export const shotExamples = ({
  train,
  test,
  count,
  seed,
}: {
  readonly train: readonly Example[];
  readonly test: readonly Example[];
  readonly count: number;
  readonly seed: number;
}): Example[] => {
  const texts = train.map(({ id, question, solution }) => ({ id, question, answer: solution }));
  const contaminated = new Set(findContamination(texts, test).map(({ id }) => id));
  return shuffled(train, randomFrom(seed, 'shots'))
    .filter(({ id }) => !contaminated.has(id))
    .slice(0, count);
};

/** Each example as the student is asked it, with its solution as the student's answer, and then the question. */
export const shotMessages = (shots: readonly Example[], example: Example, instruction: string): ChatMessage[] => [
  ...shots.flatMap((shot): ChatMessage[] => [...studentMessages(shot, instruction), { role: 'assistant', content: shot.solution }]),
  ...studentMessages(example, instruction),
];

/** The prompt that leaves least room for an answer, in tokens. */
export const longestPrompt = ({ messagesOf }: Asking, examples: readonly Example[], { template, tokenizer }: ModelText): number =>
  Math.max(...examples.map((example) => promptTokens(template, tokenizer, messagesOf(example)).length));
