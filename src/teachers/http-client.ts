import { type Dispatcher, EnvHttpProxyAgent, Pool, util } from 'undici';
import { startDeadline } from './deadline.ts';
import type { Environment } from './provider-keys.ts';

export interface HttpCall {
  readonly method: 'GET' | 'POST';
  /** Below the client's base URL: `/chat/completions`, `/batches?limit=100`. */
  readonly path: string;
  readonly body?: string | Buffer;
  /** Of the body; JSON when absent. */
  readonly contentType?: string;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** How long a call may take, and who may end it before. */
export interface HttpPatience {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** No whole answer came in time. */
export class HttpTimeoutError extends Error {
  override name = 'HttpTimeoutError';
}

/** Connections to one server, kept open between requests. Whoever opens them releases them. */
export interface HttpClient {
  /** Rejects with a system error when no whole answer comes, with an HttpTimeoutError, or with the signal's reason. */
  send(call: HttpCall, patience: HttpPatience): Promise<HttpAnswer>;
  /** The body line by line as it comes, for answers of any size; where the status is not 200, `onOther` gets the whole answer and there are no lines. */
  lines(call: HttpCall, patience: HttpPatience, onOther: (answer: HttpAnswer) => void): AsyncGenerator<string>;
  release(): Promise<void>;
}

export interface HttpClientOptions {
  readonly baseUrl: URL;
  /** Sent with every request, to this URL's host and nowhere else. */
  readonly headers: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** For HTTPS_PROXY and its like; absent: no proxy. */
  readonly proxies?: Environment;
}

/** Answers are texts of some kilobytes; a server that sends more than this sends something else. */
const maximumBodyBytes = 64 * 2 ** 20;

/**
 * Asks by undici's dispatch. Node's fetch gives up after five minutes without a first byte, which a long answer on a slow server takes, and
 * follows redirects, which would carry prompts to a host that nobody named; node:http with a signal costs three times as much a request.
 */
export const httpClient = ({ baseUrl, headers, concurrency, proxies }: HttpClientOptions): HttpClient => {
  const dispatcher = dispatcherFor(baseUrl, concurrency, proxies);
  const aborts = sharedAborts();
  const basePath = baseUrl.pathname.replace(/\/+$/, '');
  const optionsFor = ({ method, path, body, contentType = 'application/json' }: HttpCall) => ({
    origin: baseUrl.origin,
    method,
    path: `${basePath}${path}`,
    headers: { ...headers, accept: 'application/json', ...(body !== undefined && { 'content-type': contentType }) },
    ...(body !== undefined && { body }),
  });
  return {
    send: (call, patience) => dispatchWhole(dispatcher, optionsFor(call), patience, aborts),
    lines: async function* (call, { timeoutMs, signal }, onOther) {
      const deadline = startDeadline(timeoutMs, signal);
      try {
        const answer = await dispatcher.request({ ...optionsFor(call), signal: deadline.signal });
        if (answer.statusCode === 200) yield* linesOf(answer.body);
        else onOther({ status: answer.statusCode, headers: plainHeaders(answer.headers), body: await answer.body.text() });
      } catch (thrown) {
        signal?.throwIfAborted();
        throw deadline.isOver() ? new HttpTimeoutError() : thrown;
      } finally {
        deadline.end();
      }
    },
    release: () => dispatcher.destroy(),
  };
};

/** Timeouts are the calls' own. */
const dispatcherFor = ({ origin }: URL, connections: number, proxies: Environment | undefined): Dispatcher => {
  const options = { connections, headersTimeout: 0, bodyTimeout: 0 };
  const named = (name: string): string => proxies?.[name] ?? proxies?.[name.toUpperCase()] ?? '';
  const [httpProxy, httpsProxy, noProxy] = [named('http_proxy'), named('https_proxy'), named('no_proxy')];
  if (httpProxy === '' && httpsProxy === '') return new Pool(origin, options);
  // Without an empty text for those that are not set, it would look into this process's environment.
  return new EnvHttpProxyAgent({ ...options, httpProxy, httpsProxy, noProxy });
};

/** Calls what waits for a signal, with one listener for all: a signal looks through all that it has whenever one is added or taken away. */
interface SharedAborts {
  add(signal: AbortSignal, onAbort: () => void): void;
  remove(signal: AbortSignal, onAbort: () => void): void;
}

const sharedAborts = (): SharedAborts => {
  const waiting = new Map<AbortSignal, { readonly calls: Set<() => void>; readonly callAll: () => void }>();
  return {
    add: (signal, onAbort) => {
      let entry = waiting.get(signal);
      if (entry === undefined) {
        const calls = new Set<() => void>();
        const callAll = (): void => {
          for (const call of [...calls]) call();
        };
        entry = { calls, callAll };
        waiting.set(signal, entry);
        signal.addEventListener('abort', callAll);
      }
      entry.calls.add(onAbort);
    },
    remove: (signal, onAbort) => {
      const entry = waiting.get(signal);
      entry?.calls.delete(onAbort);
      if (entry?.calls.size !== 0) return;
      waiting.delete(signal);
      signal.removeEventListener('abort', entry.callAll);
    },
  };
};

/** One call and its whole answer; a signal or timer of its own for each would cost as much as the rest of it. */
const dispatchWhole = (
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  { timeoutMs, signal }: HttpPatience,
  aborts: SharedAborts,
): Promise<HttpAnswer> => {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  let abort: ((reason?: Error) => void) | undefined;
  let givenUp: Error | undefined;
  let status = 0;
  let headers: Readonly<Record<string, string>> = {};
  let sizeBytes = 0;
  const chunks: Buffer[] = [];
  const end = (): void => {
    clearTimeout(timer);
    if (signal !== undefined) aborts.remove(signal, onAbort);
  };
  const giveUp = (reason: Error): void => {
    givenUp = reason;
    end();
    abort?.(reason);
    reject(reason);
  };
  const timer = setTimeout(() => giveUp(new HttpTimeoutError()), timeoutMs);
  const onAbort = (): void => giveUp(signal?.reason);
  if (signal?.aborted === true) giveUp(signal.reason);
  else if (signal !== undefined) aborts.add(signal, onAbort);
  dispatcher.dispatch(options, {
    onConnect: (abortRequest) => {
      abort = abortRequest;
      if (givenUp !== undefined) abort(givenUp);
    },
    onHeaders: (statusCode, rawHeaders) => {
      status = statusCode;
      headers = plainHeaders(util.parseHeaders(rawHeaders));
      return true;
    },
    onData: (chunk) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= maximumBodyBytes) chunks.push(chunk);
      else giveUp(Object.assign(new Error(`the answer is larger than ${maximumBodyBytes} bytes`), { code: 'EMSGSIZE' }));
      return true;
    },
    onComplete: () => {
      end();
      const [first] = chunks;
      const body = chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
      resolve({ status, headers, body: body.toString('utf8') });
    },
    onError: (error) => {
      end();
      reject(givenUp ?? error);
    },
  });
  return promise;
};

const plainHeaders = (given: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> => {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given))
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  return headers;
};

/** Lines of a body, which may come in any pieces; a newline is a byte of its own in UTF-8. */
async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let pieces: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      yield Buffer.concat([...pieces, chunk.subarray(start, end)]).toString('utf8');
      pieces = [];
      start = end + 1;
    }
    if (start < chunk.length) pieces.push(chunk.subarray(start));
  }
  if (pieces.length > 0) yield Buffer.concat(pieces).toString('utf8');
}
