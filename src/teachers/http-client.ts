import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Environment } from './provider-keys.ts';

export interface HttpCall {
  readonly method: 'GET' | 'POST';
  /** Below the client's base URL: `/chat/completions`, `/batches?limit=100`. */
  readonly path: string;
  readonly body?: string | Uint8Array;
  /** Of the body; JSON when absent. */
  readonly contentType?: string;
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Connections to one server, kept open between requests. Whoever opens them releases them. */
export interface HttpClient {
  /** Rejects with a system error when no whole answer comes, and with the signal's reason when it is raised. */
  send(call: HttpCall, signal: AbortSignal): Promise<HttpAnswer>;
  /** The body line by line as it comes, for answers of any size; where the status is not 200, `onOther` gets the whole answer and there are no lines. */
  lines(call: HttpCall, signal: AbortSignal, onOther: (answer: HttpAnswer) => void): AsyncGenerator<string>;
  release(): void;
}

export interface HttpClientOptions {
  readonly baseUrl: URL;
  /** Sent with every request, to this URL's host and nowhere else. */
  readonly headers: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** For HTTPS_PROXY and its like, from Node 24 on; absent: no proxy. */
  readonly proxies?: Environment;
}

/** Answers are texts of some kilobytes; a server that sends more than this sends something else. */
const maximumBodyBytes = 64 * 2 ** 20;

/**
 * Asks over node:http. Node's fetch gives up after five minutes without a first byte, which a long answer on a slow server takes; it follows
 * redirects, which would carry prompts to a host that nobody named; and it costs half as much again per request.
 */
export const httpClient = ({ baseUrl, headers, concurrency, proxies = {} }: HttpClientOptions): HttpClient => {
  const { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy } = proxies;
  const proxyEnv = { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy };
  const agentOptions = { keepAlive: true, maxSockets: concurrency, proxyEnv };
  const isSecure = baseUrl.protocol === 'https:';
  const agent = isSecure ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
  const request = isSecure ? httpsRequest : httpRequest;
  // A URL object is parsed anew at every request.
  const target = {
    protocol: baseUrl.protocol,
    hostname: baseUrl.hostname.replace(/^\[|\]$/g, ''),
    port: baseUrl.port,
    agent,
  };
  const basePath = baseUrl.pathname.replace(/\/+$/, '');

  /** Sends, and hands over what comes back as soon as it begins. */
  const begin = (
    { method, path, body, contentType = 'application/json' }: HttpCall,
    signal: AbortSignal,
    onMessage: (message: IncomingMessage) => void,
    onError: (reason: unknown) => void,
  ): void => {
    const bytes = body === undefined ? undefined : Buffer.from(body);
    const bodyHeaders = bytes && { 'content-type': contentType, 'content-length': bytes.length };
    const sent = request(
      { ...target, method, path: `${basePath}${path}`, signal, headers: { ...headers, accept: 'application/json', ...bodyHeaders } },
      onMessage,
    );
    sent.on('error', onError);
    sent.end(bytes);
  };

  return {
    send: async (call, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
      begin(call, signal, (message) => readAnswer(message, resolve, reject), reject);
      try {
        return await promise;
      } catch (thrown) {
        // node:http reports an AbortError of its own; the reason tells a timeout from a stop.
        throw signal.aborted ? signal.reason : thrown;
      }
    },
    lines: async function* (call, signal, onOther) {
      try {
        const message = await new Promise<IncomingMessage>((resolve, reject) => begin(call, signal, resolve, reject));
        if (message.statusCode === 200) yield* linesOf(message);
        else onOther(await new Promise((resolve, reject) => readAnswer(message, resolve, reject)));
      } catch (thrown) {
        throw signal.aborted ? signal.reason : thrown;
      }
    },
    release: () => agent.destroy(),
  };
};

/** The whole body, or an error when the connection breaks in the middle of it. */
const readAnswer = (message: IncomingMessage, resolve: (answer: HttpAnswer) => void, reject: (reason: unknown) => void): void => {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  message.on('data', (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > maximumBodyBytes)
      message.destroy(Object.assign(new Error(`the answer is larger than ${maximumBodyBytes} bytes`), { code: 'EMSGSIZE' }));
    else chunks.push(chunk);
  });
  message.on('error', reject);
  message.on('end', () => {
    const headers = Object.fromEntries(
      Object.entries(message.headers).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
      ),
    );
    resolve({ status: message.statusCode ?? 0, headers, body: Buffer.concat(chunks).toString('utf8') });
  });
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
