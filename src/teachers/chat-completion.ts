import { z } from 'zod';
import { separateReasoning } from './reasoning.ts';
import type { FinishReason, RateLimit, TeacherAnswer, TeacherRequest, Usage } from './teacher.ts';

/** Sampling parameters that some models refuse. */
export type OmittableParameter = 'temperature' | 'topP' | 'seed';

export interface ChatCompletionSettings {
  readonly model: string;
  /** Parameters that are not sent. */
  readonly omit: readonly OmittableParameter[];
  readonly tokenLimitParameter: 'max_tokens' | 'max_completion_tokens';
  readonly reasoningEffort?: string | undefined;
}

/** The body of a request to OpenAI's chat completions. */
export const chatCompletionBody = (
  { messages, sampling }: Pick<TeacherRequest, 'messages' | 'sampling'>,
  { model, omit, tokenLimitParameter, reasoningEffort }: ChatCompletionSettings,
): Record<string, unknown> => ({
  model,
  messages: messages.map(({ role, content }) => ({ role, content })),
  [tokenLimitParameter]: sampling.maximumTokens,
  ...(omit.includes('temperature') ? {} : { temperature: sampling.temperature }),
  // 1 is every provider's default, and some refuse it beside a temperature.
  ...(omit.includes('topP') || sampling.topP === 1 ? {} : { top_p: sampling.topP }),
  ...(omit.includes('seed') ? {} : { seed: sampling.seed }),
  ...(reasoningEffort === undefined ? {} : { reasoning_effort: reasoningEffort }),
});

/** What is read of an answer; servers add much of their own. */
const completionSchema = z.object({
  model: z.string().nullish(),
  choices: z
    .array(
      z.object({
        message: z.object({
          content: z.string().nullish(),
          refusal: z.string().nullish(),
          /** DeepSeek, vLLM and others; OpenRouter and Ollama call it `reasoning`. */
          reasoning_content: z.string().nullish(),
          reasoning: z.string().nullish(),
        }),
        finish_reason: z.string().nullish(),
      }),
    )
    .min(1),
  usage: z
    .object({
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      prompt_tokens_details: z.object({ cached_tokens: z.number().nullish() }).nullish(),
      completion_tokens_details: z.object({ reasoning_tokens: z.number().nullish() }).nullish(),
    })
    .nullish()
    .catch(undefined),
});

/** The answer in a chat completion; undefined where the value is none. */
export const parseChatCompletion = (value: unknown): TeacherAnswer | undefined => {
  const parsed = completionSchema.safeParse(value);
  const choice = parsed.data?.choices[0];
  if (!parsed.success || choice === undefined) return undefined;
  const { content, refusal, reasoning_content: reasoningContent, reasoning: otherReasoning } = choice.message;
  const separated = separateReasoning(content || refusal || '');
  const reasoning = reasoningContent || otherReasoning || separated.reasoning;
  const usage = usageOf(parsed.data.usage);
  return {
    text: separated.text,
    ...(reasoning === undefined ? {} : { reasoning }),
    // A model that refuses says so in a field of its own, and ends with `stop`.
    finishReason: refusal && !content ? 'content-filter' : finishReasonOf(choice.finish_reason),
    ...(usage && { usage }),
    ...(parsed.data.model ? { reportedModel: parsed.data.model } : {}),
  };
};

/** Beside OpenAI's own words those of servers that imitate it. */
const finishReasons: Readonly<Record<string, FinishReason>> = {
  stop: 'stop',
  eos: 'stop',
  end_turn: 'stop',
  length: 'length',
  max_tokens: 'length',
  content_filter: 'content-filter',
};

const finishReasonOf = (reason: string | null | undefined): FinishReason => finishReasons[reason ?? ''] ?? 'other';

/** Undefined where the provider did not count: 0 would look as if it had cost nothing. */
const usageOf = (usage: z.infer<typeof completionSchema>['usage']): Usage | undefined => {
  if (usage === undefined || usage === null) return undefined;
  const cachedPromptTokens = usage.prompt_tokens_details?.cached_tokens;
  const reasoningTokens = usage.completion_tokens_details?.reasoning_tokens;
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    ...(cachedPromptTokens ? { cachedPromptTokens } : {}),
    ...(reasoningTokens ? { reasoningTokens } : {}),
  };
};

/** What headers say of limits per minute, by the names that a provider gives them. */
export const rateLimitIn = (names: Record<keyof RateLimit, string>, headers: Readonly<Record<string, string>>): RateLimit | undefined => {
  let limit: Record<string, number> | undefined;
  for (const [name, header] of Object.entries(names)) {
    const value = Number(headers[header] ?? Number.NaN);
    if (Number.isFinite(value) && value >= 0) limit = { ...limit, [name]: value };
  }
  return limit;
};

/** The headers of OpenAI and of those who imitate them. */
export const rateLimitOf = (headers: Readonly<Record<string, string>>): RateLimit | undefined => rateLimitIn(rateLimitHeaders, headers);

const rateLimitHeaders: Record<keyof RateLimit, string> = {
  requestsPerMinute: 'x-ratelimit-limit-requests',
  tokensPerMinute: 'x-ratelimit-limit-tokens',
  remainingRequests: 'x-ratelimit-remaining-requests',
  remainingTokens: 'x-ratelimit-remaining-tokens',
};
