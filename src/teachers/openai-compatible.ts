import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { UserError } from '../base/errors.ts';
import { aiSdkTeacher, type OmittableParameter } from './ai-sdk.ts';
import { httpFetch } from './http-fetch.ts';
import { type Environment, isLoopback, keyFor, parseBaseUrl } from './provider-keys.ts';
import type { Teacher, TeacherIdentity } from './teacher.ts';

export interface OpenAiCompatibleOptions {
  /** Up to and including the version: https://api.openai.com/v1, http://localhost:8000/v1. */
  readonly baseUrl: string;
  readonly model: string;
  /** The environment variable that holds the key for this very host; absent: the one that belongs to a known provider, or no key. */
  readonly apiKeyVariable?: string | undefined;
  /** Where keys (and proxies) are looked up. Nothing else is read from it. */
  readonly environment: Environment;
  /** Pins what the name alone does not: part of every answer's key. */
  readonly revision?: string | undefined;
  readonly concurrency?: number | undefined;
  readonly timeoutMs?: number | undefined;
  /** Parameters that are not sent. Absent: those that OpenAI's reasoning models refuse, for these models. */
  readonly omit?: readonly OmittableParameter[] | undefined;
  /** The name under which the token limit is sent. Absent: `max_completion_tokens` for OpenAI's reasoning models, `max_tokens` otherwise. */
  readonly tokenLimitParameter?: 'max_tokens' | 'max_completion_tokens' | undefined;
  readonly reasoningEffort?: string | undefined;
  /** Refuses every host but this machine. */
  readonly offline?: boolean | undefined;
}

/**
 * Any server that speaks OpenAI's chat completions: a provider, vLLM, llama.cpp, Ollama. The key goes to the base URL's host only and stands
 * in no error, file or identity.
 */
export const openAiCompatibleTeacher = (options: OpenAiCompatibleOptions): Teacher => {
  const url = parseBaseUrl(options.baseUrl);
  const isLocal = isLoopback(url.hostname);
  if (options.offline === true && !isLocal)
    throw new UserError(
      `The teacher ${options.model} is at ${url.host}, and this run is offline. Leave --offline out, or name a teacher on this machine.`,
    );
  const key = keyFor(url, options.apiKeyVariable, options.environment);
  const concurrency = options.concurrency ?? 8;
  // A proxy could not reach this machine's own servers.
  const http = httpFetch({ concurrency, ...(isLocal ? {} : { environment: options.environment }) });
  const refuses = isReasoningModel(url, options.model);
  const omit = options.omit ?? (refuses ? ['temperature', 'topP'] : []);
  const tokenLimit = options.tokenLimitParameter ?? (refuses ? 'max_completion_tokens' : 'max_tokens');
  const baseURL = url.href.replace(/\/+$/, '');
  const provider = createOpenAICompatible({
    name: 'teacher',
    baseURL,
    fetch: http.fetch,
    ...(key === undefined ? {} : { apiKey: key }),
    transformRequestBody: ({ max_tokens, ...body }) => ({ ...body, [tokenLimit]: max_tokens }),
  });
  const settings = {
    ...(omit.length > 0 && { omit: [...omit].sort().join(' ') }),
    ...(options.reasoningEffort && { reasoningEffort: options.reasoningEffort }),
  };
  const identity: TeacherIdentity = {
    kind: 'openai-compatible',
    model: options.model,
    ...(isLocal ? {} : { provider: url.hostname }),
    ...(options.revision === undefined ? {} : { revision: options.revision }),
    ...(Object.keys(settings).length > 0 && { settings }),
    location: baseURL,
  };
  const teacher = aiSdkTeacher(provider.chatModel(options.model), {
    identity,
    concurrency,
    omit,
    secrets: key === undefined ? [] : [key],
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.reasoningEffort === undefined ? {} : { providerOptions: { teacher: { reasoningEffort: options.reasoningEffort } } }),
    release: async () => http.release(),
  });
  return { ...teacher, identity };
};

/** OpenAI's own o-series and GPT-5 take no sampling parameters and know the limit under a newer name. */
const isReasoningModel = (url: URL, model: string): boolean => url.hostname === 'api.openai.com' && /^(o\d|gpt-5)/.test(model);
