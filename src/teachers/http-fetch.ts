import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Environment } from './provider-keys.ts';

/** A `fetch` with connections of its own. Whoever opens it releases it. */
export interface HttpFetch {
  readonly fetch: typeof globalThis.fetch;
  release(): void;
}

/** Answers are texts of some kilobytes; a server that sends more than this sends something else. */
const maximumBodyBytes = 64 * 2 ** 20;

/**
 * A `fetch` for JSON requests over node:http. Node's own gives up after five minutes without a first byte, which a long answer on a slow
 * server takes, follows redirects, which would carry prompts to a host that nobody named, and costs half as much again per request.
 * Proxies are taken from HTTPS_PROXY and its like; from Node 24 on.
 */
export const httpFetch = (options: { readonly concurrency: number; readonly environment?: Environment }): HttpFetch => {
  const { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy } = options.environment ?? {};
  const agentOptions = {
    keepAlive: true,
    maxSockets: options.concurrency,
    proxyEnv: { HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy },
  };
  const http = new HttpAgent(agentOptions);
  const https = new HttpsAgent(agentOptions);
  return {
    fetch: async (input, init = {}) => {
      const url = new URL(input instanceof Request ? input.url : input);
      const body = typeof init.body === 'string' ? init.body : '';
      const headers = { ...Object.fromEntries(new Headers(init.headers)), 'content-length': String(Buffer.byteLength(body)) };
      const signal = init.signal ?? undefined;
      const requestOptions = { method: init.method ?? 'GET', headers, ...(signal === undefined ? {} : { signal }) };
      const { promise, resolve, reject } = Promise.withResolvers<Response>();
      const onResponse = (message: IncomingMessage): void => {
        bodyOf(message).then((bytes) => resolve(responseOf(message, bytes)), reject);
      };
      const request =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...requestOptions, agent: https }, onResponse)
          : httpRequest(url, { ...requestOptions, agent: http }, onResponse);
      request.on('error', reject);
      request.end(body);
      try {
        return await promise;
      } catch (thrown) {
        // node:http reports its own AbortError; the reason tells a timeout from a stop.
        throw signal?.aborted === true ? signal.reason : thrown;
      }
    },
    release: () => {
      http.destroy();
      https.destroy();
    },
  };
};

/** The whole body, or an error when the connection breaks in the middle of it. */
const bodyOf = async (message: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > maximumBodyBytes) throw new Error(`the answer is larger than ${maximumBodyBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

const responseOf = (message: IncomingMessage, body: Buffer): Response => {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers))
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value);
  const status = message.statusCode ?? 0;
  const hasNoBody = status === 204 || status === 205 || status === 304;
  return new Response(hasNoBody ? null : new Uint8Array(body), { status, headers });
};
