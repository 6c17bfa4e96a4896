import { parquetWriteBuffer } from 'hyparquet-writer';
import type { ChatMessage } from '../text/chat-message.ts';

/** A question as a student is asked it, and the answer that is learnt. */
export interface ExportRow {
  /** Of the question; with several answers to a question also which. */
  readonly id: string;
  readonly messages: readonly ChatMessage[];
  readonly answer: string;
}

/** A form that other trainers read. */
export interface ResponseFormat {
  readonly fileName: string;
  readonly encode: (rows: readonly ExportRow[]) => string | Uint8Array;
  /** Whether `trl sft` reads it as it is. */
  readonly isReadByTrl: boolean;
  /** An entry of LLaMA-Factory's dataset_info.json, less the file's name; absent where it does not read this form. */
  readonly llamaFactory?: { readonly formatting: string; readonly columns: object; readonly tags?: object };
}

export const exportFormatNames = ['chat-jsonl', 'sharegpt', 'alpaca', 'prompt-completion', 'parquet'] as const;
export type ExportFormatName = (typeof exportFormatNames)[number];

const jsonLines = (rowOf: (row: ExportRow) => object) => (rows: readonly ExportRow[]) =>
  rows.map((row) => `${JSON.stringify(rowOf(row))}\n`).join('');

const conversation = ({ messages, answer }: ExportRow): ChatMessage[] => [
  ...messages.map(({ role, content }) => ({ role, content })),
  { role: 'assistant', content: answer },
];

const speakers: Record<ChatMessage['role'], string> = { system: 'system', user: 'human', assistant: 'gpt' };

const chatInLlamaFactory = {
  formatting: 'sharegpt',
  columns: { messages: 'messages' },
  tags: { role_tag: 'role', content_tag: 'content', user_tag: 'user', assistant_tag: 'assistant', system_tag: 'system' },
};

export const exportFormats: Record<ExportFormatName, ResponseFormat> = {
  'chat-jsonl': {
    fileName: 'train.jsonl',
    encode: jsonLines((row) => ({ id: row.id, messages: conversation(row) })),
    isReadByTrl: true,
    llamaFactory: chatInLlamaFactory,
  },
  sharegpt: {
    fileName: 'train.jsonl',
    encode: jsonLines((row) => ({
      id: row.id,
      conversations: conversation(row).map(({ role, content }) => ({ from: speakers[role], value: content })),
    })),
    // It renames the keys and leaves `human` and `gpt`, which no chat template knows (maybe_convert_to_chatml of TRL 1.16).
    isReadByTrl: false,
    llamaFactory: { formatting: 'sharegpt', columns: { messages: 'conversations' } },
  },
  alpaca: {
    fileName: 'train.jsonl',
    encode: jsonLines(({ id, messages, answer }) => ({
      id,
      instruction: textOf(messages, 'user'),
      input: '',
      output: answer,
      system: textOf(messages, 'system'),
    })),
    isReadByTrl: false,
    llamaFactory: { formatting: 'alpaca', columns: { prompt: 'instruction', query: 'input', response: 'output', system: 'system' } },
  },
  'prompt-completion': {
    fileName: 'train.jsonl',
    encode: jsonLines((row) => ({ id: row.id, prompt: conversation(row).slice(0, -1), completion: conversation(row).slice(-1) })),
    isReadByTrl: true,
  },
  parquet: {
    fileName: 'train.parquet',
    encode: (rows) => parquetOf(rows),
    isReadByTrl: true,
    llamaFactory: chatInLlamaFactory,
  },
};

const textOf = (messages: readonly ChatMessage[], wanted: ChatMessage['role']): string =>
  messages
    .filter(({ role }) => role === wanted)
    .map(({ content }) => content)
    .join('\n\n');

const text = { type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' } as const;

/** Columns `id` and `messages`, the latter a list of `{role, content}`. */
const parquetOf = (rows: readonly ExportRow[]): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: 'id', data: rows.map(({ id }) => id) },
        { name: 'messages', data: rows.map(conversation) },
      ],
      schema: [
        { name: 'root', num_children: 2 },
        { name: 'id', ...text },
        { name: 'messages', num_children: 1, converted_type: 'LIST', repetition_type: 'REQUIRED' },
        { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
        { name: 'element', num_children: 2, repetition_type: 'REQUIRED' },
        { name: 'role', ...text },
        { name: 'content', ...text },
      ],
      createdBy: 'retort',
    }),
  );
