import type { BatchingTeacher, TeacherProfile } from './batches.ts';
import {
  type ChatCompletionSettings,
  chatCompletionBody,
  type OmittableParameter,
  parseChatCompletion,
  rateLimitOf,
} from './chat-completion.ts';
import { httpTeacher } from './http-teacher.ts';
import { openAiBatches, openAiBatchFormat } from './openai-batches.ts';
import { connectTo, locationOf, type ProviderOptions, providerOf } from './provider-connection.ts';
import { parseBaseUrl } from './provider-keys.ts';
import type { TeacherIdentity } from './teacher.ts';

export interface OpenAiCompatibleOptions extends ProviderOptions {
  /** Parameters that are not sent. Absent: those that OpenAI's reasoning models refuse, for these models. */
  readonly omit?: readonly OmittableParameter[] | undefined;
  /** The name under which the token limit is sent. Absent: `max_completion_tokens` for OpenAI's reasoning models, `max_tokens` otherwise. */
  readonly tokenLimitParameter?: 'max_tokens' | 'max_completion_tokens' | undefined;
  readonly reasoningEffort?: string | undefined;
}

/**
 * Any server that speaks OpenAI's chat completions: a provider, vLLM, llama.cpp, Ollama. The key goes to the base URL's host only and stands
 * in no error, file or identity. Its batches want OpenAI's `/files` and `/batches` beside them, which few others have.
 */
export const openAiCompatibleTeacher = (options: OpenAiCompatibleOptions): BatchingTeacher => {
  const connection = connectTo(options, (key) => (key === undefined ? {} : { authorization: `Bearer ${key}` }));
  const { settings, identity } = openAiCompatibleProfile(options);
  return httpTeacher({
    identity,
    connection,
    concurrency: options.concurrency,
    dialect: {
      path: '/chat/completions',
      body: (request) => chatCompletionBody(request, settings),
      parse: parseChatCompletion,
      rateLimit: rateLimitOf,
    },
    batches: openAiBatches(connection, openAiBatchFormat(settings, connection.secrets)),
  });
};

/** How a server is asked and who its teacher is, without asking it. */
export const openAiCompatibleProfile = (
  options: Omit<OpenAiCompatibleOptions, 'environment'>,
): TeacherProfile & { readonly settings: ChatCompletionSettings } => {
  const url = parseBaseUrl(options.baseUrl);
  const settings = settingsOf(options, isReasoningModel(url, options.model));
  return { settings, identity: identityOf(options, settings, url), batchFormat: openAiBatchFormat(settings) };
};

const settingsOf = (options: Omit<OpenAiCompatibleOptions, 'environment'>, isReasoning: boolean): ChatCompletionSettings => ({
  model: options.model,
  omit: options.omit ?? (isReasoning ? ['temperature', 'topP'] : []),
  tokenLimitParameter: options.tokenLimitParameter ?? (isReasoning ? 'max_completion_tokens' : 'max_tokens'),
  reasoningEffort: options.reasoningEffort,
});

const identityOf = (
  { model, revision }: Omit<OpenAiCompatibleOptions, 'environment'>,
  { omit, reasoningEffort }: ChatCompletionSettings,
  url: URL,
): TeacherIdentity => {
  const provider = providerOf(url);
  const settings = { ...(omit.length > 0 && { omit: [...omit].sort().join(' ') }), ...(reasoningEffort && { reasoningEffort }) };
  return {
    kind: 'openai-compatible',
    model,
    ...(provider === undefined ? {} : { provider }),
    ...(revision === undefined ? {} : { revision }),
    ...(Object.keys(settings).length > 0 && { settings }),
    location: locationOf(url),
  };
};

/** OpenAI's own o-series and GPT-5 take no sampling parameters and know the limit under a newer name. */
const isReasoningModel = (url: URL, model: string): boolean => url.hostname === 'api.openai.com' && /^(o\d|gpt-5)/.test(model);
