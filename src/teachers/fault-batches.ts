import { z } from 'zod';
import type { BatchLimits } from './batches.ts';
import { type FaultServerAnswer, type FaultServerRequest, jsonOf, type Wire, wires } from './fault-wires.ts';
import { tooLongBody } from './faults.ts';

/** What can become of one request in a batch. */
export type LineFault = keyof typeof lineFaults;

export interface FaultBatchOptions {
  /** How long a batch takes; 0 when absent. */
  readonly durationMs?: number;
  /** What becomes of a batch as a whole that comes after `index` others; undefined: its requests are answered. */
  readonly jobs?: (index: number, requestCount: number) => JobFault | undefined;
  readonly limits?: BatchLimits;
}

/** A batch that fails as a whole: what its lines do not conform to, or more tokens than may be waiting. Nothing of it is billed. */
export type JobFault = 'invalid' | 'too-much';

/** What the server has in hand for one request of a batch. */
export interface DealtLine {
  readonly fault: LineFault | undefined;
  readonly answer: FaultServerAnswer;
}

/** A batch that was taken, and billed at once: it runs to its end whoever asks for it. */
export interface SubmittedBatch {
  readonly id: string;
  readonly requestCount: number;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Job extends SubmittedBatch {
  readonly createdAtMs: number;
  readonly fault: JobFault | undefined;
  readonly output: readonly string[];
  readonly errors: readonly string[];
}

/** A row a fault: whether it is billed. */
export const lineFaults = {
  'server-error': { isBilled: false },
  'too-long': { isBilled: false },
  'bad-request': { isBilled: false },
  expired: { isBilled: false },
  /** Stands in no file. */
  missing: { isBilled: false },
  length: { isBilled: true },
  'content-filter': { isBilled: true },
};

/** A call of a batch interface. */
export interface BatchCall {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly body: string;
  readonly contentType: string;
}

export interface BatchReply {
  readonly status: number;
  readonly body: string;
}

export interface BatchDesk {
  /** Undefined where the call is none of a batch interface. Deals with it; what is sent may be something else. */
  handle(call: BatchCall): BatchReply | undefined;
  readonly submitted: readonly SubmittedBatch[];
}

/** OpenAI's and Anthropic's batch interfaces. `deal` serves and bills one request. */
export const batchDesk = (
  { durationMs = 0, jobs: jobFault, limits }: FaultBatchOptions,
  deal: (request: FaultServerRequest) => DealtLine,
): BatchDesk => {
  const jobs: Job[] = [];
  const files = new Map<string, string>();
  const isEnded = (job: Job): boolean => Date.now() >= job.createdAtMs + durationMs;

  const take = (
    prefix: string,
    lines: readonly { readonly id: string; readonly text: string }[],
    wire: Wire,
    form: (id: string, request: FaultServerRequest, dealt: DealtLine) => { readonly line: string; readonly isError: boolean } | undefined,
    metadata: Readonly<Record<string, string>> = {},
  ): Job => {
    const fault = jobFault?.(jobs.length, lines.length);
    const formed =
      fault === undefined
        ? lines.flatMap(({ id, text }) => {
            const request = wire.parse(text);
            return request === undefined ? [] : (form(id, request, deal(request)) ?? []);
          })
        : [];
    const job: Job = {
      id: `${prefix}${String(jobs.length).padStart(6, '0')}`,
      requestCount: lines.length,
      metadata,
      createdAtMs: Date.now(),
      fault,
      // Results come in no order.
      output: formed.flatMap(({ line, isError }) => (isError ? [] : [line])).reverse(),
      errors: formed.flatMap(({ line, isError }) => (isError ? [line] : [])),
    };
    jobs.push(job);
    return job;
  };

  /** A page of the list, the newest first; cursors are ids that stand before or after it. */
  const page = (prefix: string, query: URLSearchParams, afterName: string) => {
    const all = jobs.filter(({ id }) => id.startsWith(prefix)).reverse();
    const indexOf = (name: string): number | undefined => {
      const id = query.get(name);
      return id === null ? undefined : all.findIndex((job) => job.id === id);
    };
    const limit = Number(query.get('limit') ?? 20);
    const before = indexOf('before_id');
    if (before !== undefined) {
      const start = Math.max(0, before - limit);
      return { jobs: all.slice(start, before), hasMore: start > 0 };
    }
    const start = (indexOf(afterName) ?? -1) + 1;
    return { jobs: all.slice(start, start + limit), hasMore: start + limit < all.length };
  };

  const openAiObject = (job: Job) => ({
    id: job.id,
    object: 'batch',
    endpoint: '/v1/chat/completions',
    status: job.fault !== undefined ? 'failed' : isEnded(job) ? (isExpired(job) ? 'expired' : 'completed') : 'in_progress',
    created_at: Math.floor(job.createdAtMs / 1000),
    metadata: job.metadata,
    request_counts: { total: job.requestCount, completed: job.output.length, failed: job.errors.length },
    ...(job.fault !== undefined && { errors: { data: [jobErrors[job.fault]] } }),
    ...(job.fault === undefined && isEnded(job) && job.output.length > 0 && { output_file_id: `file-output-${job.id}` }),
    ...(job.fault === undefined && isEnded(job) && job.errors.length > 0 && { error_file_id: `file-error-${job.id}` }),
  });
  const anthropicObject = (job: Job) => {
    const count = (type: string): number => job.output.filter((line) => line.includes(`"result":{"type":"${type}"`)).length;
    const ended = { processing: 0, succeeded: count('succeeded'), errored: count('errored'), canceled: 0, expired: count('expired') };
    const underWay = { processing: job.requestCount, succeeded: 0, errored: 0, canceled: 0, expired: 0 };
    return {
      id: job.id,
      type: 'message_batch',
      processing_status: isEnded(job) ? 'ended' : 'in_progress',
      created_at: new Date(job.createdAtMs).toISOString(),
      request_counts: isEnded(job) ? ended : underWay,
      // No client that keeps its key to itself goes there.
      results_url: isEnded(job) ? `http://elsewhere.invalid/${job.id}` : null,
    };
  };

  const fileText = (id: string): string | undefined => {
    const job = jobs.find((candidate) => id.endsWith(candidate.id));
    if (job === undefined) return files.get(id);
    return `${(id.startsWith('file-output-') ? job.output : job.errors).join('\n')}\n`;
  };

  /** By method and path, a row a call. */
  const routes: readonly (readonly [RegExp, (call: BatchCall, parts: readonly string[], query: URLSearchParams) => BatchReply])[] = [
    [
      /^POST \/v1\/files$/,
      ({ body, contentType }) => {
        const file = uploadedFile(body, contentType);
        if (file === undefined) return refusal(400, 'Expected a file with purpose batch.');
        const id = `file-${files.size}`;
        files.set(id, file);
        return json({ id, object: 'file', purpose: 'batch', bytes: Buffer.byteLength(file) });
      },
    ],
    [
      /^GET \/v1\/files\/([\w-]+)\/content$/,
      (_, [id = '']) => {
        const text = fileText(id);
        return text === undefined ? refusal(404, `No such file: ${id}`) : { status: 200, body: text };
      },
    ],
    [
      /^POST \/v1\/batches$/,
      ({ body }) => {
        const { data } = openAiBatch.safeParse(jsonOf(body));
        const file = files.get(data?.input_file_id ?? '');
        if (data === undefined || file === undefined) return refusal(400, 'Expected a batch of an uploaded file.');
        const lines = file.split('\n').flatMap((line) => {
          const parsed = openAiLine.safeParse(jsonOf(line));
          return parsed.success ? [{ id: parsed.data.custom_id, text: JSON.stringify(parsed.data.body) }] : [];
        });
        if (isOver(limits, lines.length, file)) return refusal(400, 'The batch is larger than the limits.');
        return json(openAiObject(take('batch_', lines, wires.openAi, openAiResult, data.metadata ?? {})));
      },
    ],
    [
      /^GET \/v1\/batches$/,
      (_, __, query) => {
        const { jobs: found, hasMore } = page('batch_', query, 'after');
        return json({ object: 'list', data: found.map(openAiObject), has_more: hasMore });
      },
    ],
    [/^GET \/v1\/batches\/([\w-]+)$/, (_, [id = '']) => one(id, openAiObject)],
    [
      /^POST \/v1\/messages\/batches$/,
      ({ body }) => {
        const { data } = anthropicBatch.safeParse(jsonOf(body));
        if (data === undefined) return refusal(400, 'Expected requests with ids of 1 to 64 letters.');
        if (isOver(limits, data.requests.length, body)) return refusal(413, 'The batch is larger than the limits.');
        const lines = data.requests.map((request) => ({ id: request.custom_id, text: JSON.stringify(request.params) }));
        return json(anthropicObject(take('msgbatch_', lines, wires.anthropic, anthropicResult)));
      },
    ],
    [
      /^GET \/v1\/messages\/batches$/,
      (_, __, query) => {
        const { jobs: found, hasMore } = page('msgbatch_', query, 'after_id');
        return json({ data: found.map(anthropicObject), has_more: hasMore, first_id: found[0]?.id, last_id: found.at(-1)?.id });
      },
    ],
    [/^GET \/v1\/messages\/batches\/(msgbatch_\w+)$/, (_, [id = '']) => one(id, anthropicObject)],
    [
      /^GET \/v1\/messages\/batches\/(msgbatch_\w+)\/results$/,
      (_, [id = '']) => {
        const job = jobs.find((candidate) => candidate.id === id);
        if (job === undefined || !isEnded(job)) return refusal(404, `No results of ${id}`);
        return { status: 200, body: job.output.join('\n') };
      },
    ],
  ];
  const one = (id: string, form: (job: Job) => object): BatchReply => {
    const job = jobs.find((candidate) => candidate.id === id);
    return job === undefined ? refusal(404, `No such batch: ${id}`) : json(form(job));
  };

  return {
    submitted: jobs,
    handle: (call) => {
      const { pathname, searchParams } = new URL(call.url, 'http://localhost');
      for (const [pattern, reply] of routes) {
        const match = pattern.exec(`${call.method} ${pathname}`);
        if (match !== null) return reply(call, match.slice(1), searchParams);
      }
      return undefined;
    },
  };
};

const openAiBatch = z.object({
  input_file_id: z.string(),
  endpoint: z.literal('/v1/chat/completions'),
  completion_window: z.literal('24h'),
  metadata: z.record(z.string(), z.string()).optional(),
});
const openAiLine = z.object({
  custom_id: z.string(),
  method: z.literal('POST'),
  url: z.literal('/v1/chat/completions'),
  body: z.record(z.string(), z.unknown()),
});
const anthropicBatch = z.object({
  requests: z.array(z.object({ custom_id: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/), params: z.record(z.string(), z.unknown()) })).min(1),
});

const jobErrors: Record<JobFault, { readonly code: string; readonly message: string }> = {
  invalid: { code: 'invalid_json_line', message: 'This line is not parseable as valid JSON.' },
  'too-much': { code: 'token_limit_exceeded', message: 'Enqueued token limit reached. Try again when batches have been completed.' },
};

const isOver = (limits: BatchLimits | undefined, requestCount: number, text: string): boolean =>
  limits !== undefined && (requestCount > limits.requestCount || Buffer.byteLength(text) > limits.sizeBytes);

const isExpired = ({ errors }: Job): boolean => errors.some((line) => line.includes('batch_expired'));

const changed = ({ fault, answer }: DealtLine): FaultServerAnswer => {
  if (fault === 'length') return { ...answer, finishReason: 'length' };
  return fault === 'content-filter' ? { ...answer, text: '', finishReason: 'content-filter' } : answer;
};

const openAiResult = (id: string, request: FaultServerRequest, dealt: DealtLine) => {
  const line = (response: unknown, error: unknown = null) => JSON.stringify({ id: `batch_req_${id}`, custom_id: id, response, error });
  const failed = (status: number, body: unknown) => ({ line: line({ status_code: status, request_id: 'r', body }), isError: true });
  switch (dealt.fault) {
    case 'missing':
      return undefined;
    case 'expired':
      return { line: line(null, { code: 'batch_expired', message: 'This request could not be executed in time.' }), isError: true };
    case 'server-error':
      return failed(500, { error: { message: 'The server had an error.' } });
    case 'too-long':
      return failed(400, tooLongBody);
    case 'bad-request':
      return failed(400, { error: { message: 'No such parameter.' } });
    case 'length':
    case 'content-filter':
    case undefined:
      return { line: line({ status_code: 200, request_id: 'r', body: wires.openAi.body(request, changed(dealt)) }), isError: false };
  }
};

const anthropicResult = (id: string, request: FaultServerRequest, dealt: DealtLine) => {
  const line = (result: object) => ({ line: JSON.stringify({ custom_id: id, result }), isError: false });
  const errored = (type: string, said: string) => line({ type: 'errored', error: { type: 'error', error: { type, message: said } } });
  switch (dealt.fault) {
    case 'missing':
      return undefined;
    case 'expired':
      return line({ type: 'expired' });
    case 'server-error':
      return errored('api_error', 'Internal server error');
    case 'too-long':
      return errored('invalid_request_error', 'prompt is too long: 9 tokens > 8 maximum');
    case 'bad-request':
      return errored('invalid_request_error', 'No such parameter.');
    case 'length':
    case 'content-filter':
    case undefined:
      return line({ type: 'succeeded', message: wires.anthropic.body(request, changed(dealt)) });
  }
};

/** The file of a multipart/form-data body with purpose batch. */
const uploadedFile = (body: string, contentType: string): string | undefined => {
  const boundary = /boundary=([^;\s]+)/.exec(contentType)?.[1];
  if (boundary === undefined) return undefined;
  const parts = body.split(`--${boundary}`);
  const contentOf = (name: string): string | undefined => {
    const part = parts.find((candidate) => candidate.includes(`name="${name}"`));
    return part?.slice(part.indexOf('\r\n\r\n') + 4, -2);
  };
  return contentOf('purpose') === 'batch' ? contentOf('file') : undefined;
};

const json = (value: object): BatchReply => ({ status: 200, body: JSON.stringify(value) });
const refusal = (status: number, said: string): BatchReply => ({ status, body: JSON.stringify({ error: { message: said } }) });
