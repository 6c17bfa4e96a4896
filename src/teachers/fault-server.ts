import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';
import { sha256 } from '../base/folders.ts';
import { randomFrom } from '../base/random.ts';

/** What can go wrong between a client and a provider. */
export type Fault = keyof typeof faults;

export interface FaultServerOptions {
  readonly seed?: number;
  /** The share of requests that meet each fault, or a script: what happens to a request that came `attempt` times before. */
  readonly faults?: Readonly<Partial<Record<Fault, number>>> | ((request: FaultServerRequest, attempt: number) => Fault | undefined);
  /** How long an answer takes. */
  readonly latencyMs?: number;
  /** Sent with 429; absent: none is sent. */
  readonly retryAfterSeconds?: number;
  /** The text of an answer; absent: a few words and a number that depend on messages and seed alone. */
  readonly answer?: (request: FaultServerRequest) => string;
  /** Requests without this key get a 401 that quotes what came. */
  readonly key?: string;
  /** Quotes the whole Authorization header in every error, as no decent server does. */
  readonly echoesKey?: boolean;
  /** 0 picks a free one. */
  readonly port?: number;
}

export interface FaultServerRequest {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly seed: number | undefined;
  /** A hash of the whole request: equal requests have equal ones. */
  readonly fingerprint: string;
}

export interface ServedRequest extends FaultServerRequest {
  readonly attempt: number;
  readonly fault: Fault | undefined;
  readonly isBilled: boolean;
}

/** A server of OpenAI's chat completions on this machine that fails on schedule and counts what it would have billed. */
export interface FaultServer {
  /** For `openAiCompatibleTeacher`. */
  readonly baseUrl: string;
  /** All that was dealt with, in order of arrival of the end. */
  readonly served: readonly ServedRequest[];
  /** How often each request, by fingerprint, was billed. */
  readonly billed: ReadonlyMap<string, number>;
  readonly billedCount: () => number;
  /** Tokens of everything billed. */
  readonly billedUsage: () => { readonly promptTokens: number; readonly completionTokens: number };
  /** Requests that have come and are not dealt with; stalled ones do not count. */
  readonly underWayCount: () => number;
  readonly peakUnderWayCount: () => number;
  close(): Promise<void>;
}

const requestBody = z.object({
  model: z.string(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })),
  seed: z.number().optional(),
});

interface Occasion {
  readonly response: ServerResponse;
  /** The body of the answer that should have been sent. */
  readonly answerBody: () => Record<string, unknown>;
  readonly errorBody: (message: string) => string;
  readonly retryAfterSeconds: number | undefined;
}

/** A row a fault: whether the provider bills it, and what the client sees. */
const faults = {
  'rate-limited': {
    isBilled: false,
    send: ({ response, errorBody, retryAfterSeconds }: Occasion) => {
      if (retryAfterSeconds !== undefined) response.setHeader('retry-after', String(retryAfterSeconds));
      sendJson(response, 429, errorBody('Rate limit reached. Slow down.'));
    },
  },
  'server-error': {
    isBilled: false,
    send: ({ response, errorBody }: Occasion) => sendJson(response, 500, errorBody('The server had an error.')),
  },
  overloaded: { isBilled: false, send: ({ response }: Occasion) => sendJson(response, 503, '') },
  'bad-request': { isBilled: false, send: ({ response, errorBody }: Occasion) => sendJson(response, 400, errorBody('No such parameter.')) },
  'too-long': {
    isBilled: false,
    send: ({ response }: Occasion) =>
      sendJson(
        response,
        400,
        JSON.stringify({ error: { message: "This model's maximum context length is 8 tokens.", code: 'context_length_exceeded' } }),
      ),
  },
  forbidden: {
    isBilled: false,
    send: ({ response, errorBody }: Occasion) => sendJson(response, 403, errorBody('This key may not use this model.')),
  },
  'not-found': { isBilled: false, send: ({ response, errorBody }: Occasion) => sendJson(response, 404, errorBody('No such model.')) },
  'reset-before-billing': { isBilled: false, send: ({ response }: Occasion) => void response.socket?.resetAndDestroy() },
  'reset-after-billing': { isBilled: true, send: ({ response }: Occasion) => void response.socket?.resetAndDestroy() },
  'empty-body': { isBilled: true, send: ({ response }: Occasion) => sendJson(response, 200, '') },
  'empty-answer': {
    isBilled: true,
    send: ({ response, answerBody }: Occasion) => sendJson(response, 200, JSON.stringify(withChoice(answerBody(), { text: '' }))),
  },
  'half-json': {
    isBilled: true,
    send: ({ response, answerBody }: Occasion) => {
      const text = JSON.stringify(answerBody());
      sendJson(response, 200, text.slice(0, text.length / 2));
    },
  },
  garbage: {
    isBilled: true,
    send: ({ response, errorBody }: Occasion) => sendJson(response, 200, `\u0000\u0001 garbage ${errorBody('not JSON')}`),
  },
  'web-page': {
    isBilled: false,
    send: ({ response, errorBody }: Occasion) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(`<!doctype html><html><title>Gateway</title><p>Sign in to the network. ${errorBody('')}</html>`);
    },
  },
  stall: { isBilled: false, send: () => undefined },
  length: {
    isBilled: true,
    send: ({ response, answerBody }: Occasion) =>
      sendJson(response, 200, JSON.stringify(withChoice(answerBody(), { finishReason: 'length' }))),
  },
  'content-filter': {
    isBilled: true,
    send: ({ response, answerBody }: Occasion) =>
      sendJson(response, 200, JSON.stringify(withChoice(answerBody(), { text: '', finishReason: 'content_filter' }))),
  },
};

/** Starts the server on the loopback interface. Whoever starts it closes it. */
export const startFaultServer = async (options: FaultServerOptions = {}): Promise<FaultServer> => {
  const { seed = 0, latencyMs = 0, answer = defaultAnswer, retryAfterSeconds } = options;
  const served: ServedRequest[] = [];
  const billed = new Map<string, number>();
  const attempts = new Map<string, number>();
  const total = { promptTokens: 0, completionTokens: 0 };
  let underWay = 0;
  let peak = 0;

  const deal = (request: FaultServerRequest, response: ServerResponse, authorization: string): void => {
    const attempt = attempts.get(request.fingerprint) ?? 0;
    attempts.set(request.fingerprint, attempt + 1);
    const fault = faultOf(options.faults, request, attempt, seed);
    const isBilled = fault === undefined || faults[fault].isBilled;
    const text = answer(request);
    const usage = {
      promptTokens: countWords(request.messages.map(({ content }) => content).join(' ')),
      completionTokens: countWords(text),
    };
    if (isBilled) {
      billed.set(request.fingerprint, (billed.get(request.fingerprint) ?? 0) + 1);
      total.promptTokens += usage.promptTokens;
      total.completionTokens += usage.completionTokens;
    }
    served.push({ ...request, attempt, fault, isBilled });
    const answerBody = () => completionBody(request, text, usage);
    const errorBody = (message: string) =>
      JSON.stringify({ error: { message: options.echoesKey === true ? `${message} You sent ${authorization}` : message } });
    if (fault === undefined) sendJson(response, 200, JSON.stringify(answerBody()));
    else faults[fault].send({ response, answerBody, errorBody, retryAfterSeconds });
  };

  const handle = async (message: IncomingMessage, response: ServerResponse): Promise<void> => {
    const request = requestOf(await textOf(message));
    const authorization = message.headers.authorization ?? '';
    if (options.key !== undefined && authorization !== `Bearer ${options.key}`)
      return sendJson(response, 401, JSON.stringify({ error: { message: `Incorrect API key provided: ${authorization}.` } }));
    if (message.url !== '/v1/chat/completions' || request === undefined)
      return sendJson(response, 404, JSON.stringify({ error: { message: `No such route: ${message.url}` } }));
    peak = Math.max(peak, ++underWay);
    // A client that is gone by then is billed all the same, as providers do it.
    setTimeout(() => {
      underWay--;
      deal(request, response, authorization);
    }, latencyMs);
  };

  const server = createServer((message, response) => {
    handle(message, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    served,
    billed,
    billedCount: () => [...billed.values()].reduce((sum, count) => sum + count, 0),
    billedUsage: () => ({ ...total }),
    underWayCount: () => underWay,
    peakUnderWayCount: () => peak,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};

/** Drawn from the request and how often it came: the same for any order of arrival. */
const faultOf = (schedule: FaultServerOptions['faults'], request: FaultServerRequest, attempt: number, seed: number): Fault | undefined => {
  if (schedule === undefined) return undefined;
  if (typeof schedule === 'function') return schedule(request, attempt);
  let left = randomFrom(seed, 'fault', request.fingerprint, attempt).uniform();
  for (const name of Object.keys(faults) as Fault[]) {
    left -= schedule[name] ?? 0;
    if (left < 0) return name;
  }
  return undefined;
};

const requestOf = (text: string): FaultServerRequest | undefined => {
  try {
    const { model, messages, seed } = requestBody.parse(JSON.parse(text));
    return { model, messages, seed, fingerprint: sha256(text) };
  } catch {
    return undefined;
  }
};

const completionBody = (
  request: FaultServerRequest,
  text: string,
  usage: { readonly promptTokens: number; readonly completionTokens: number },
): Record<string, unknown> => ({
  id: `chatcmpl-${request.fingerprint.slice(0, 12)}`,
  object: 'chat.completion',
  created: 0,
  model: `${request.model}-2026-01-01`,
  choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }],
  usage: {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
  },
});

const withChoice = (
  body: Record<string, unknown>,
  change: { readonly text?: string; readonly finishReason?: string },
): Record<string, unknown> => {
  const [choice] = z
    .array(z.looseObject({ message: z.object({ role: z.string(), content: z.string() }), finish_reason: z.string() }))
    .parse(body['choices']);
  const message = { role: 'assistant', content: change.text ?? choice?.message.content ?? '' };
  return { ...body, choices: [{ ...choice, message, finish_reason: change.finishReason ?? 'stop' }] };
};

const sendJson = (response: ServerResponse, status: number, body: string): void => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body);
};

const textOf = async (message: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
};

const defaultAnswer = (request: FaultServerRequest): string => {
  const number = Number.parseInt(request.fingerprint.slice(0, 6), 16) % 100;
  return `Thinking it over gives ${number}.\n#### ${number}`;
};

const countWords = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length;
