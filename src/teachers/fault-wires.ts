import { z } from 'zod';
import { sha256 } from '../base/folders.ts';
import type { FinishReason } from './teacher.ts';

/** A request as a fault server understands it. */
export interface FaultServerRequest {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly seed: number | undefined;
  /** A hash of the whole request: equal requests have equal ones, alone or in a batch. */
  readonly fingerprint: string;
}

/** What a fault server answers to a request. */
export interface FaultServerAnswer {
  readonly text: string;
  readonly finishReason: FinishReason;
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
}

/** How one provider's requests and answers look. */
export interface Wire {
  readonly path: string;
  /** What came in place of the key. */
  keyOf(headers: Readonly<Record<string, string | string[] | undefined>>): string;
  /** Undefined where the text is no request. */
  parse(text: string): FaultServerRequest | undefined;
  body(request: FaultServerRequest, answer: FaultServerAnswer): Record<string, unknown>;
}

const message = z.object({ role: z.string(), content: z.string() });
const openAiRequest = z.object({ model: z.string(), messages: z.array(message), seed: z.number().optional() });
const anthropicRequest = z.object({
  model: z.string(),
  max_tokens: z.number(),
  system: z.string().optional(),
  messages: z.array(message.extend({ role: z.enum(['user', 'assistant']) })),
});

const openAiReasons: Record<FinishReason, string> = { stop: 'stop', length: 'length', 'content-filter': 'content_filter', other: 'other' };
const anthropicReasons: Record<FinishReason, string> = {
  stop: 'end_turn',
  length: 'max_tokens',
  'content-filter': 'refusal',
  other: 'pause_turn',
};

const textOf = (value: string | string[] | undefined): string => (Array.isArray(value) ? value.join(', ') : (value ?? ''));

export const wires: Readonly<Record<'openAi' | 'anthropic', Wire>> = {
  openAi: {
    path: '/v1/chat/completions',
    keyOf: ({ authorization }) => textOf(authorization).replace(/^Bearer /, ''),
    parse: (text) => {
      const { data } = openAiRequest.safeParse(jsonOf(text));
      return data && { ...data, seed: data.seed, fingerprint: sha256(text) };
    },
    body: ({ model, fingerprint }, { text, finishReason, usage }) => ({
      id: `chatcmpl-${fingerprint.slice(0, 12)}`,
      object: 'chat.completion',
      created: 0,
      model: `${model}-2026-01-01`,
      choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: openAiReasons[finishReason] }],
      usage: {
        prompt_tokens: usage.promptTokens,
        completion_tokens: usage.completionTokens,
        total_tokens: usage.promptTokens + usage.completionTokens,
      },
    }),
  },
  anthropic: {
    path: '/v1/messages',
    keyOf: (headers) => textOf(headers['x-api-key']),
    parse: (text) => {
      const { data } = anthropicRequest.safeParse(jsonOf(text));
      if (data === undefined) return undefined;
      const system = data.system === undefined ? [] : [{ role: 'system', content: data.system }];
      return { model: data.model, messages: [...system, ...data.messages], seed: undefined, fingerprint: sha256(text) };
    },
    body: ({ model, fingerprint }, { text, finishReason, usage }) => ({
      id: `msg_${fingerprint.slice(0, 12)}`,
      type: 'message',
      role: 'assistant',
      model: `${model}-20260101`,
      content: text === '' ? [] : [{ type: 'text', text }],
      stop_reason: anthropicReasons[finishReason],
      stop_sequence: null,
      usage: { input_tokens: usage.promptTokens, output_tokens: usage.completionTokens },
    }),
  },
};

export const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
