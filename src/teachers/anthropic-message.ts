import { z } from 'zod';
import { type OmittableParameter, rateLimitIn } from './chat-completion.ts';
import type { FinishReason, RateLimit, TeacherAnswer, TeacherRequest, Usage } from './teacher.ts';

export interface AnthropicSettings {
  readonly model: string;
  /** Parameters that are not sent; there is no seed to send. */
  readonly omit: readonly OmittableParameter[];
}

/** The body of a request to Anthropic's messages: system texts stand beside the conversation. */
export const anthropicMessageBody = (
  { messages, sampling }: Pick<TeacherRequest, 'messages' | 'sampling'>,
  { model, omit }: AnthropicSettings,
): Record<string, unknown> => {
  const system = messages.flatMap(({ role, content }) => (role === 'system' ? [content] : []));
  return {
    model,
    max_tokens: sampling.maximumTokens,
    ...(system.length > 0 && { system: system.join('\n\n') }),
    messages: messages.flatMap(({ role, content }) => (role === 'system' ? [] : [{ role, content }])),
    ...(omit.includes('temperature') ? {} : { temperature: sampling.temperature }),
    ...(omit.includes('topP') || sampling.topP === 1 ? {} : { top_p: sampling.topP }),
  };
};

/** What is read of an answer; blocks of other kinds are left out. */
const messageSchema = z.object({
  type: z.literal('message'),
  model: z.string().nullish(),
  content: z.array(z.looseObject({ type: z.string(), text: z.string().optional(), thinking: z.string().optional() })),
  stop_reason: z.string().nullish(),
  usage: z
    .object({
      input_tokens: z.number(),
      output_tokens: z.number(),
      cache_creation_input_tokens: z.number().nullish(),
      cache_read_input_tokens: z.number().nullish(),
    })
    .nullish()
    .catch(undefined),
});

const finishReasons: Readonly<Record<string, FinishReason>> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  refusal: 'content-filter',
};

/** The answer in a message; undefined where the value is none. */
export const parseAnthropicMessage = (value: unknown): TeacherAnswer | undefined => {
  const { data } = messageSchema.safeParse(value);
  if (data === undefined) return undefined;
  const textOf = (kind: 'text' | 'thinking'): string =>
    data.content.flatMap((block) => (block.type === kind ? [block[kind]] : [])).join('');
  const reasoning = textOf('thinking');
  const usage = usageOf(data.usage);
  return {
    text: textOf('text'),
    ...(reasoning === '' ? {} : { reasoning }),
    finishReason: finishReasons[data.stop_reason ?? ''] ?? 'other',
    ...(usage && { usage }),
    ...(data.model ? { reportedModel: data.model } : {}),
  };
};

/** What was read from the cache and what was written to it is not part of the input's tokens. */
const usageOf = (usage: z.infer<typeof messageSchema>['usage']): Usage | undefined => {
  if (usage === undefined || usage === null) return undefined;
  const cached = usage.cache_read_input_tokens ?? 0;
  return {
    promptTokens: usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0),
    completionTokens: usage.output_tokens,
    ...(cached > 0 && { cachedPromptTokens: cached }),
  };
};

/** Limits per minute from Anthropic's headers. */
export const anthropicRateLimitOf = (headers: Readonly<Record<string, string>>): RateLimit | undefined =>
  rateLimitIn(rateLimitHeaders, headers);

const rateLimitHeaders: Record<keyof RateLimit, string> = {
  requestsPerMinute: 'anthropic-ratelimit-requests-limit',
  tokensPerMinute: 'anthropic-ratelimit-tokens-limit',
  remainingRequests: 'anthropic-ratelimit-requests-remaining',
  remainingTokens: 'anthropic-ratelimit-tokens-remaining',
};
