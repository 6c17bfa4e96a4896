import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Environment } from './provider-keys.ts';

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Connections to one URL, kept open between requests. Whoever opens them releases them. */
export interface HttpPoster {
  /** Sends JSON. Rejects with a system error when no whole answer comes, and with the signal's reason when it is raised. */
  post(body: string, signal: AbortSignal): Promise<HttpAnswer>;
  release(): void;
}

export interface HttpPosterOptions {
  readonly url: URL;
  /** Sent with every request, to this URL's host and nowhere else. */
  readonly headers: Readonly<Record<string, string>>;
  readonly concurrency: number;
  /** For HTTPS_PROXY and its like, from Node 24 on; absent: no proxy. */
  readonly proxies?: Environment;
}

/** Answers are texts of some kilobytes; a server that sends more than this sends something else. */
const maximumBodyBytes = 64 * 2 ** 20;

/**
 * Posts over node:http. Node's fetch gives up after five minutes without a first byte, which a long answer on a slow server takes; it follows
 * redirects, which would carry prompts to a host that nobody named; and it costs half as much again per request.
 */
export const httpPoster = ({ url, headers, concurrency, proxies = {} }: HttpPosterOptions): HttpPoster => {
  const { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy } = proxies;
  const proxyEnv = { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy };
  const agentOptions = { keepAlive: true, maxSockets: concurrency, proxyEnv };
  const isSecure = url.protocol === 'https:';
  const agent = isSecure ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
  const request = isSecure ? httpsRequest : httpRequest;
  // A URL object is parsed anew at every request.
  const target = {
    protocol: url.protocol,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port,
    path: url.pathname,
    method: 'POST',
    agent,
  };
  return {
    post: async (body, signal) => {
      const bytes = Buffer.from(body);
      const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
      const sent = request(
        {
          ...target,
          signal,
          headers: { ...headers, 'content-type': 'application/json', accept: 'application/json', 'content-length': bytes.length },
        },
        (message) => readAnswer(message, resolve, reject),
      );
      sent.on('error', reject);
      sent.end(bytes);
      try {
        return await promise;
      } catch (thrown) {
        // node:http reports an AbortError of its own; the reason tells a timeout from a stop.
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
