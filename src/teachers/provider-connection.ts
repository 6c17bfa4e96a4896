import { UserError } from '../base/errors.ts';
import { type HttpAnswer, type HttpCall, HttpTimeoutError, httpClient } from './http-client.ts';
import { type ProviderFailure, teacherErrorOf } from './provider-failure.ts';
import { type Environment, isLoopback, keyFor, parseBaseUrl } from './provider-keys.ts';
import { type Redact, redactor, wholeSecretsOut } from './redact.ts';
import { TeacherError } from './teacher-error.ts';

/** Where a provider is and who may ask it. */
export interface ProviderOptions {
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
  /** Refuses every host but this machine. */
  readonly offline?: boolean | undefined;
  /** Milliseconds since 1970, for a Retry-After that names a date. */
  readonly now?: (() => number) | undefined;
}

/** Asks one provider: each call within the time, with the key, and every failure a TeacherError without credentials. */
export interface ProviderConnection {
  /** The model and its address, for errors. */
  readonly where: string;
  readonly secrets: readonly string[];
  /** Takes the key out of a text that must stay as it is otherwise. */
  readonly hide: Redact;
  /** What `read` makes of the answer; undefined: it is none, and the call fails with what came instead. */
  exchange<T>(call: HttpCall, read: (answer: HttpAnswer) => T | undefined, signal: AbortSignal | undefined): Promise<T>;
  /** The lines of a body of any size. */
  lines(call: HttpCall, signal: AbortSignal): AsyncGenerator<string>;
  release(): Promise<void>;
}

/** Opens connections to a provider. The key goes to the base URL's host only and stands in no error. */
export const connectTo = (
  options: ProviderOptions,
  headersFor: (key: string | undefined) => Record<string, string>,
): ProviderConnection => {
  const { model, environment, timeoutMs = 600_000, now = Date.now } = options;
  const url = parseBaseUrl(options.baseUrl);
  const isLocal = isLoopback(url.hostname);
  if (options.offline === true && !isLocal)
    throw new UserError(
      `The teacher ${model} is at ${url.host}, and this run is offline. Leave --offline out, or name a teacher on this machine.`,
    );
  const key = keyFor(url, options.apiKeyVariable, environment);
  const http = httpClient({
    baseUrl: url,
    headers: headersFor(key),
    concurrency: options.concurrency ?? defaultConcurrency,
    // A proxy could not reach this machine's own servers.
    ...(isLocal ? {} : { proxies: environment }),
  });
  const secrets = key === undefined ? [] : [key];
  const where = `${model} at ${locationOf(url)}`;
  const fail = (failure: ProviderFailure): TeacherError => teacherErrorOf(failure, where, redactor(secrets), now());

  /** What a call throws, in the words of this provider. */
  const errorOf = (thrown: unknown): unknown => {
    if (thrown instanceof HttpTimeoutError)
      return new TeacherError(`${where} did not answer within ${timeoutMs / 1000} s.`, { retry: 'later' });
    // A connection that was refused or broken off: system errors have codes.
    if (thrown instanceof Error && !(thrown instanceof TeacherError) && 'code' in thrown && typeof thrown.code === 'string')
      return fail({ message: thrown.message.includes(thrown.code) ? thrown.message : `${thrown.message} (${thrown.code})` });
    return thrown;
  };

  return {
    where,
    secrets,
    hide: wholeSecretsOut(secrets),
    exchange: async (call, read, signal) => {
      try {
        const answer = await http.send(call, { timeoutMs, signal });
        const result = read(answer);
        if (result === undefined) throw fail({ ...answer, message: '' });
        return result;
      } catch (thrown) {
        signal?.throwIfAborted();
        throw errorOf(thrown);
      }
    },
    lines: async function* (call, signal) {
      try {
        yield* http.lines(call, { timeoutMs, signal }, (answer) => {
          throw fail({ ...answer, message: '' });
        });
      } catch (thrown) {
        signal.throwIfAborted();
        throw errorOf(thrown);
      }
    },
    release: http.release,
  };
};

export const defaultConcurrency = 8;

/** A base URL as identities and errors show it. */
export const locationOf = (url: URL): string => url.href.replace(/\/+$/, '');

/** Who serves a base URL, for a teacher's identity; nobody where it is this machine. */
export const providerOf = (url: URL): string | undefined => (isLoopback(url.hostname) ? undefined : url.hostname);

/** The value of a JSON text, or undefined. */
export const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
