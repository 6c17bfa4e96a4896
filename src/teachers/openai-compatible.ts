import { UserError } from '../base/errors.ts';
import {
  type ChatCompletionSettings,
  chatCompletionBody,
  type OmittableParameter,
  parseChatCompletion,
  rateLimitOf,
} from './chat-completion.ts';
import { startDeadline } from './deadline.ts';
import { type HttpPoster, httpPoster } from './http-post.ts';
import { isContentFilter, type ProviderFailure, teacherErrorOf } from './provider-failure.ts';
import { type Environment, isLoopback, keyFor, parseBaseUrl } from './provider-keys.ts';
import { redactor, wholeSecretsOut } from './redact.ts';
import type { Teacher, TeacherAnswer, TeacherIdentity, TeacherRequest } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

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
  /** Milliseconds since 1970, for a Retry-After that names a date. */
  readonly now?: (() => number) | undefined;
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
  const baseUrl = url.href.replace(/\/+$/, '');
  const http = httpPoster({
    url: new URL(`${baseUrl}/chat/completions`),
    headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
    concurrency,
    // A proxy could not reach this machine's own servers.
    ...(isLocal ? {} : { proxies: options.environment }),
  });
  const { settings, identity } = openAiCompatibleProfile(options);
  const secrets = key === undefined ? [] : [key];
  const where = `${options.model} at ${baseUrl}`;
  return {
    identity,
    concurrency,
    generate: (request) =>
      generate(request, { http, settings, secrets, where, timeoutMs: options.timeoutMs ?? 600_000, now: options.now ?? Date.now }),
    release: () => Promise.resolve(http.release()),
  };
};

/** How a server is asked and who its teacher is, without asking it: batch files are written with the same, so that their answers have the same keys. */
export const openAiCompatibleProfile = (
  options: Omit<OpenAiCompatibleOptions, 'environment'>,
): { readonly settings: ChatCompletionSettings; readonly identity: TeacherIdentity } => {
  const url = parseBaseUrl(options.baseUrl);
  const settings = settingsOf(options, isReasoningModel(url, options.model));
  const provider = isLoopback(url.hostname) ? undefined : url.hostname;
  return { settings, identity: identityOf(options, settings, provider, url.href.replace(/\/+$/, '')) };
};

interface Connection {
  readonly http: HttpPoster;
  readonly settings: ChatCompletionSettings;
  readonly secrets: readonly string[];
  /** For errors. */
  readonly where: string;
  readonly timeoutMs: number;
  readonly now: () => number;
}

const generate = async (
  request: TeacherRequest,
  { http, settings, secrets, where, timeoutMs, now }: Connection,
): Promise<TeacherAnswer> => {
  const hide = wholeSecretsOut(secrets);
  const fail = (failure: ProviderFailure): TeacherError => teacherErrorOf(failure, where, redactor(secrets), now());
  const deadline = startDeadline(timeoutMs, request.signal);
  try {
    const { status, headers, body } = await http.post(JSON.stringify(chatCompletionBody(request, settings)), deadline.signal);
    const failure = { status, headers, body, message: '' };
    if (isContentFilter(failure)) return { text: '', finishReason: 'content-filter' };
    const answer = status === 200 ? parseChatCompletion(jsonOf(hide(body))) : undefined;
    if (answer === undefined) throw fail(failure);
    const { usage, finishReason } = answer;
    if (answer.text.trim() === '' && finishReason !== 'length' && finishReason !== 'content-filter')
      throw new TeacherError(`${where} sent an empty answer.`, { retry: 'later' }, { status, ...(usage && { usage }) });
    const rateLimit = rateLimitOf(headers);
    return { ...answer, ...(rateLimit && { rateLimit }) };
  } catch (thrown) {
    request.signal?.throwIfAborted();
    if (deadline.isOver()) throw new TeacherError(`${where} did not answer within ${timeoutMs / 1000} s.`, { retry: 'later' });
    // A connection that was refused or broken off: system errors have codes.
    if (thrown instanceof Error && !(thrown instanceof TeacherError) && 'code' in thrown && typeof thrown.code === 'string')
      throw fail({ message: thrown.message.includes(thrown.code) ? thrown.message : `${thrown.message} (${thrown.code})` });
    throw thrown;
  } finally {
    deadline.end();
  }
};

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
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
  provider: string | undefined,
  location: string,
): TeacherIdentity => {
  const settings = { ...(omit.length > 0 && { omit: [...omit].sort().join(' ') }), ...(reasoningEffort && { reasoningEffort }) };
  return {
    kind: 'openai-compatible',
    model,
    ...(provider === undefined ? {} : { provider }),
    ...(revision === undefined ? {} : { revision }),
    ...(Object.keys(settings).length > 0 && { settings }),
    location,
  };
};

/** OpenAI's own o-series and GPT-5 take no sampling parameters and know the limit under a newer name. */
const isReasoningModel = (url: URL, model: string): boolean => url.hostname === 'api.openai.com' && /^(o\d|gpt-5)/.test(model);
