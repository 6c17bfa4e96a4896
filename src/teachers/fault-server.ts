import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { randomFrom } from '../base/random.ts';
import { batchDesk, type FaultBatchOptions, type LineFault, lineFaults, type SubmittedBatch } from './fault-batches.ts';
import { type FaultServerAnswer, type FaultServerRequest, type Wire, wires } from './fault-wires.ts';
import { type Fault, faultAt, faults, sendJson } from './faults.ts';

export type { LineFault } from './fault-batches.ts';
export type { FaultServerRequest } from './fault-wires.ts';
export type { Fault } from './faults.ts';

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
  /** How batches go: calls of their interface by shares or a script (`call` counts those to this route from 0), their requests likewise. */
  readonly batches?: FaultBatchOptions & {
    readonly callFaults?: Readonly<Partial<Record<Fault, number>>> | ((route: string, call: number) => Fault | undefined);
    readonly lineFaults?:
      | Readonly<Partial<Record<LineFault, number>>>
      | ((request: FaultServerRequest, attempt: number) => LineFault | undefined);
  };
}

export interface ServedRequest extends FaultServerRequest {
  readonly attempt: number;
  readonly fault: Fault | LineFault | undefined;
  readonly isBilled: boolean;
}

/**
 * A server of OpenAI's chat completions and Anthropic's messages on this machine, and of both their batches, that fails on schedule and counts
 * what it would have billed.
 */
export interface FaultServer {
  /** For `openAiCompatibleTeacher` and `anthropicTeacher`. */
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
  /** Batches that were taken. */
  readonly batches: readonly SubmittedBatch[];
  /** Calls of the batch interfaces so far, whatever became of them. */
  readonly batchCallCount: () => number;
  close(): Promise<void>;
}

/** Starts the server on the loopback interface. Whoever starts it closes it. */
export const startFaultServer = async (options: FaultServerOptions = {}): Promise<FaultServer> => {
  const { seed = 0, latencyMs = 0, answer = defaultAnswer, retryAfterSeconds, batches = {} } = options;
  const served: ServedRequest[] = [];
  const billed = new Map<string, number>();
  const attempts = new Map<string, number>();
  const calls = new Map<string, number>();
  const total = { promptTokens: 0, completionTokens: 0 };
  let underWay = 0;
  let peak = 0;

  /** Counts the request, and bills it where its fault is billed. */
  const serve = <Name extends Fault | LineFault>(
    request: FaultServerRequest,
    faultFor: (attempt: number) => Name | undefined,
    rows: Readonly<Record<Name, { readonly isBilled: boolean }>>,
  ): { readonly fault: Name | undefined; readonly answer: FaultServerAnswer } => {
    const attempt = counted(attempts, request.fingerprint);
    const fault = faultFor(attempt);
    const isBilled = fault === undefined || rows[fault].isBilled;
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
    return { fault, answer: { text, finishReason: 'stop', usage } };
  };

  const desk = batchDesk(batches, (request) => {
    const schedule = batches.lineFaults;
    return serve(request, (attempt) => drawn(schedule, lineFaultNames, seed, 'line', request, attempt), lineFaults);
  });

  const errorBody = (key: string) => (message: string) =>
    JSON.stringify({ error: { message: options.echoesKey === true ? `${message} You sent Bearer ${key}` : message } });

  const deal = (request: FaultServerRequest, wire: Wire, response: ServerResponse, key: string): void => {
    const schedule = options.faults;
    const dealt = serve(request, (attempt) => drawn(schedule, faultNames, seed, 'fault', request, attempt), faults);
    const body = (change: Partial<FaultServerAnswer> = {}) => wire.body(request, { ...dealt.answer, ...change });
    if (dealt.fault === undefined) sendJson(response, 200, JSON.stringify(body()));
    else faults[dealt.fault].send({ response, body, errorBody: errorBody(key), retryAfterSeconds });
  };

  /** A call of a batch interface: done or not, and then told or not. */
  const dealCall = (message: IncomingMessage, body: string, response: ServerResponse, key: string): boolean => {
    const { method = '', url = '', headers } = message;
    const route = `${method} ${url.replace(/\?.*$/, '').replace(/[\w-]*\d{6}/, ':id')}`;
    const call = counted(calls, route);
    const { callFaults: schedule } = batches;
    const fault =
      typeof schedule === 'function'
        ? schedule(route, call)
        : faultAt(schedule ?? {}, faultNames, randomFrom(seed, 'call', route, call).uniform());
    const isDone = fault === undefined || faults[fault].isBilled;
    const reply = isDone ? desk.handle({ method, url, body, contentType: headers['content-type'] ?? '' }) : { status: 500, body: '{}' };
    if (reply === undefined) return false;
    if (fault === undefined) sendJson(response, reply.status, reply.body);
    else faults[fault].send({ response, body: () => ({ lost: reply.body }), errorBody: errorBody(key), retryAfterSeconds });
    return true;
  };

  const handle = async (message: IncomingMessage, response: ServerResponse): Promise<void> => {
    const text = await textOf(message);
    const isAnthropic = message.url?.startsWith(wires.anthropic.path) === true;
    const wire = isAnthropic ? wires.anthropic : wires.openAi;
    const key = wire.keyOf(message.headers);
    if (options.key !== undefined && key !== options.key)
      return sendJson(response, 401, JSON.stringify({ error: { message: `Incorrect API key provided: Bearer ${key}.` } }));
    const request = message.url === wire.path ? wire.parse(text) : undefined;
    if (request === undefined) {
      if (message.url === wire.path || !dealCall(message, text, response, key))
        sendJson(response, 404, JSON.stringify({ error: { message: `No such route: ${message.url}` } }));
      return;
    }
    peak = Math.max(peak, ++underWay);
    // A client that is gone by then is billed all the same, as providers do it.
    setTimeout(() => {
      underWay--;
      deal(request, wire, response, key);
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
    batches: desk.submitted,
    batchCallCount: () => [...calls.values()].reduce((sum, count) => sum + count, 0),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};

const faultNames = Object.keys(faults) as Fault[];
const lineFaultNames = Object.keys(lineFaults) as LineFault[];

/** How often the name came before. */
const counted = (counts: Map<string, number>, name: string): number => {
  const count = counts.get(name) ?? 0;
  counts.set(name, count + 1);
  return count;
};

/** Drawn from the request and how often it came: the same for any order of arrival. */
const drawn = <Name extends string>(
  schedule: Readonly<Partial<Record<Name, number>>> | ((request: FaultServerRequest, attempt: number) => Name | undefined) | undefined,
  names: readonly Name[],
  seed: number,
  label: string,
  request: FaultServerRequest,
  attempt: number,
): Name | undefined => {
  if (schedule === undefined) return undefined;
  if (typeof schedule === 'function') return schedule(request, attempt);
  return faultAt(schedule, names, randomFrom(seed, label, request.fingerprint, attempt).uniform());
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
