import type { ServerResponse } from 'node:http';
import type { FaultServerAnswer } from './fault-wires.ts';

/** What can go wrong between a client and a provider. */
export type Fault = keyof typeof faults;

export interface Occasion {
  readonly response: ServerResponse;
  /** The body that should have been sent, or one with another answer. */
  readonly body: (change?: Partial<FaultServerAnswer>) => Record<string, unknown>;
  readonly errorBody: (message: string) => string;
  readonly retryAfterSeconds: number | undefined;
}

/** A row a fault: whether the provider bills it (of a call that is no request: does it), and what the client sees. */
export const faults = {
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
  'too-long': { isBilled: false, send: ({ response }: Occasion) => sendJson(response, 400, JSON.stringify(tooLongBody)) },
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
    send: ({ response, body }: Occasion) => sendJson(response, 200, JSON.stringify(body({ text: '' }))),
  },
  'half-json': {
    isBilled: true,
    send: ({ response, body }: Occasion) => {
      const text = JSON.stringify(body());
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
    send: ({ response, body }: Occasion) => sendJson(response, 200, JSON.stringify(body({ finishReason: 'length' }))),
  },
  'content-filter': {
    isBilled: true,
    send: ({ response, body }: Occasion) => sendJson(response, 200, JSON.stringify(body({ text: '', finishReason: 'content-filter' }))),
  },
};

/** What a provider says of a prompt that its model cannot take. */
export const tooLongBody = { error: { message: "This model's maximum context length is 8 tokens.", code: 'context_length_exceeded' } };

/** The fault that a number from 0 to 1 falls on; shares are laid end to end in the order of the rows. */
export const faultAt = <Name extends string>(
  shares: Readonly<Partial<Record<Name, number>>>,
  names: readonly Name[],
  at: number,
): Name | undefined => {
  let left = at;
  for (const name of names) {
    left -= shares[name] ?? 0;
    if (left < 0) return name;
  }
  return undefined;
};

export const sendJson = (response: ServerResponse, status: number, body: string): void => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body);
};
