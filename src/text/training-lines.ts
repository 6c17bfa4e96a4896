import { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';
import { withoutEmpty } from '../data/data-row.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readRows } from '../data/read-rows.ts';
import type { ChatMessage } from './chat-message.ts';
import type { ChatTemplate } from './chat-template.ts';
import type { Tokenizer } from './tokenizer.ts';
import { completionRow, conversationRow, type TrainingRow } from './training-row.ts';

/** One line of training data: a conversation, or a raw text and how it goes on. */
export type TrainingLine = { readonly where: string } & ( // Of promptCount messages at the beginning nothing is learnt.
  | { readonly kind: 'conversation'; readonly messages: readonly ChatMessage[]; readonly promptCount?: number }
  | { readonly kind: 'completion'; readonly prompt: string; readonly completion: string }
);

const message = z.strictObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string() });
const shapes = [
  { keys: ['messages'], schema: z.object({ messages: z.array(message).min(1) }) },
  {
    keys: ['prompt', 'completion'],
    schema: z.object({ prompt: z.union([z.string(), z.array(message)]), completion: z.union([z.string(), z.array(message)]) }),
  },
] as const;

/**
 * A line is `{"messages": [{"role", "content"}, …]}` or `{"prompt", "completion"}`, the latter as texts (raw: no template) or as lists of
 * messages. Other keys (ids, sources) may stand beside them.
 */
export const parseTrainingLine = (value: unknown, where: string): TrainingLine => {
  const keys = typeof value === 'object' && value !== null ? Object.keys(value) : [];
  const shape = shapes.find((candidate) => candidate.keys.some((key) => keys.includes(key)));
  if (shape === undefined) {
    const near = keys.flatMap((key) => nearestName(key, ['messages', 'prompt', 'completion']) ?? []);
    throw new UserError(
      `${where}: expected {"messages": […]} or {"prompt", "completion"}, came ${keys.length === 0 ? 'no such object' : `the keys ${keys.join(', ')}`}.` +
        `${near[0] === undefined ? '' : ` Did you mean "${near[0]}"?`}`,
    );
  }
  const result = shape.schema.safeParse(value);
  if (!result.success) {
    const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
    throw new UserError(`${where}: ${problems}.`);
  }
  if ('messages' in result.data) return { kind: 'conversation', messages: result.data.messages, where };
  const { prompt, completion } = result.data;
  if (typeof prompt === 'string' && typeof completion === 'string') return { kind: 'completion', prompt, completion, where };
  if (typeof prompt === 'string' || typeof completion === 'string') {
    throw new UserError(`${where}: prompt and completion must both be texts or both be lists of messages.`);
  }
  return { kind: 'conversation', messages: [...prompt, ...completion], promptCount: prompt.length, where };
};

const standardFields = { messages: 'messages', prompt: 'prompt', completion: 'completion' };

export interface ReadTrainingLinesOptions {
  readonly limit?: number;
  /** What the split is called; `train` when absent. */
  readonly split?: string;
  /** What the columns are called, where it is not so. */
  readonly fields?: Readonly<Record<'messages' | 'prompt' | 'completion', string>>;
  readonly access?: DataAccess;
}

/** The rows of data in any form that `readRows` reads, at most `limit`. Errors name file and line (row, item). */
export const readTrainingLines = async (source: string, options: ReadTrainingLinesOptions = {}): Promise<TrainingLine[]> => {
  const { limit = Number.POSITIVE_INFINITY, split = 'train', fields, access } = options;
  const lines: TrainingLine[] = [];
  for await (const { where, value } of readRows(source, { split, what: 'training', access })) {
    lines.push(parseTrainingLine(trainingRowValue(value, fields), where));
    if (lines.length >= limit) break;
  }
  if (lines.length === 0) throw new UserError(`${source} has no lines to train on.`);
  return lines;
};

/** The row for `parseTrainingLine`: each field under the name that it has here, empty cells left out, and a column of that name which means something else, too. */
export const trainingRowValue = (given: unknown, fields: ReadTrainingLinesOptions['fields'] = standardFields): unknown => {
  const value = withoutEmpty(given);
  const others = Object.entries(fields).filter(([name, column]) => name !== column);
  if (others.length === 0 || typeof value !== 'object' || value === null) return value;
  const row = new Map<string, unknown>(Object.entries(value));
  const moved = others.flatMap(([name, column]): [string, unknown][] => (row.has(column) ? [[name, row.get(column)]] : []));
  for (const [name, column] of others) {
    row.delete(name);
    row.delete(column);
  }
  return Object.fromEntries([...row, ...moved]);
};

/** The row of a line: conversations through the template, completions raw. Undefined when `maximumLength` leaves nothing to learn. */
export const rowOfLine = (
  template: ChatTemplate,
  tokenizer: Tokenizer,
  line: TrainingLine,
  options: { readonly maximumLength: number; readonly turns: 'all' | 'last' },
): TrainingRow | undefined => {
  const { maximumLength, turns } = options;
  const { where } = line;
  if (line.kind === 'completion') return completionRow(tokenizer, line.prompt, line.completion, { maximumLength, where });
  const train = line.promptCount === undefined || turns === 'last' ? turns : { from: line.promptCount };
  return conversationRow(template, tokenizer, line.messages, { maximumLength, where, train });
};
