import { z } from 'zod';
import { type AnthropicSettings, anthropicMessageBody, parseAnthropicMessage } from './anthropic-message.ts';
import { batchResults } from './batch-results.ts';
import type { BatchFormat, BatchService, BatchSource, FoundBatch } from './batches.ts';
import type { HttpAnswer } from './http-client.ts';
import { jsonOf, type ProviderConnection } from './provider-connection.ts';
import { teacherErrorOf } from './provider-failure.ts';
import { redactor } from './redact.ts';
import type { TeacherAnswer } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

/** Requests and results of Anthropic's message batches, with its limits. */
export const anthropicBatchFormat = (settings: AnthropicSettings, secrets: readonly string[] = []): BatchFormat => {
  const where = `${settings.model} in a batch`;
  const outcomeOf = ({ type, message, error }: z.infer<typeof resultLine>['result']): TeacherAnswer | TeacherError => {
    const answer = type === 'succeeded' ? parseAnthropicMessage(message) : undefined;
    if (answer !== undefined) return answer;
    if (type !== 'errored') return new TeacherError(`The batch did not answer: ${type}.`, { retry: 'later' });
    const status = statusOf[error?.error?.type ?? ''] ?? 500;
    return teacherErrorOf(
      { status, body: JSON.stringify({ error: error?.error ?? 'no reason given' }), message: '' },
      where,
      redactor(secrets),
      0,
    );
  };
  return {
    limits: { requestCount: 100_000, sizeBytes: 256_000_000 },
    priceShare: 0.5,
    requestLine: (id, request) => JSON.stringify({ custom_id: id, params: anthropicMessageBody(request, settings) }),
    parseResult: (value) => {
      const parsed = resultLine.safeParse(value);
      return parsed.success ? { id: parsed.data.custom_id, outcome: outcomeOf(parsed.data.result) } : undefined;
    },
  };
};

const resultLine = z.object({
  custom_id: z.string(),
  result: z.object({
    type: z.enum(['succeeded', 'errored', 'canceled', 'expired']),
    message: z.unknown().optional(),
    error: z.object({ error: z.object({ type: z.string(), message: z.string() }).nullish() }).nullish(),
  }),
});

/** The HTTP status that each kind of error has outside of batches. */
const statusOf: Readonly<Record<string, number>> = {
  invalid_request_error: 400,
  authentication_error: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  request_too_large: 413,
  rate_limit_error: 429,
  api_error: 500,
  timeout_error: 504,
  overloaded_error: 529,
};

const batchObject = z.object({
  id: z.string(),
  processing_status: z.string(),
  request_counts: z.record(z.string(), z.number()),
});
type BatchObject = z.infer<typeof batchObject>;

const batchList = z.object({ data: z.array(batchObject), has_more: z.boolean() });

/**
 * Message batches. They carry no name: one that may have been submitted before a kill is looked for among those that are newer than the
 * newest one before it, by the number of its requests, and known by the ids in its results.
 */
export const anthropicBatches = (connection: ProviderConnection, format: BatchFormat): BatchService => {
  const read =
    <T>(schema: z.ZodType<T>) =>
    ({ status, body }: HttpAnswer): T | undefined =>
      status === 200 ? schema.safeParse(jsonOf(body)).data : undefined;
  const list = (query: string, signal: AbortSignal) =>
    connection.exchange({ method: 'GET', path: `/messages/batches?${query}` }, read(batchList), signal);
  async function* results(sources: readonly BatchSource[], signal: AbortSignal) {
    // The address that the provider names is not followed: the key goes to the host of the config alone.
    for (const source of sources)
      yield* batchResults(source, `/messages/batches/${encodeURIComponent(source.id)}/results`, format, connection, signal);
  }
  /** Whether an ended batch holds this job's requests: its first result says so. */
  const holds = async (batch: BatchObject, ids: ReadonlySet<string>, signal: AbortSignal): Promise<boolean> => {
    for await (const { id } of results([sourceOf(batch)], signal)) return ids.has(id);
    return false;
  };
  const newerThan = async (mark: string | undefined, signal: AbortSignal): Promise<BatchObject[]> => {
    const found: BatchObject[] = [];
    for (let cursor = mark; ; ) {
      const direction = mark === undefined ? 'after_id' : 'before_id';
      const query = `limit=100${cursor === undefined ? '' : `&${direction}=${encodeURIComponent(cursor)}`}`;
      const { data, has_more: hasMore } = await list(query, signal);
      found.push(...data);
      cursor = (mark === undefined ? data.at(-1) : data[0])?.id;
      if (!hasMore || cursor === undefined) return found;
    }
  };
  return {
    format,
    mark: async (signal) => (await list('limit=1', signal)).data[0]?.id,
    submit: async (_job, lines, signal) => {
      const body = Buffer.from(`{"requests":[${lines.join(',')}]}`);
      return (await connection.exchange({ method: 'POST', path: '/messages/batches', body }, read(batchObject), signal)).id;
    },
    find: async ({ ids, mark }, known, signal): Promise<FoundBatch> => {
      const own = new Set(ids);
      const candidates = (await newerThan(mark, signal)).filter((batch) => !known.has(batch.id) && requestCountOf(batch) === ids.length);
      for (const batch of candidates.filter(isEnded)) if (await holds(batch, own, signal)) return { found: 'yes', providerId: batch.id };
      return { found: candidates.every(isEnded) ? 'no' : 'perhaps' };
    },
    poll: async (providerId, signal) => {
      const path = `/messages/batches/${encodeURIComponent(providerId)}`;
      const batch = await connection.exchange({ method: 'GET', path }, read(batchObject), signal);
      return isEnded(batch) ? { status: 'ended', sources: [sourceOf(batch)] } : { status: 'under-way' };
    },
    results,
  };
};

const isEnded = ({ processing_status: status }: BatchObject): boolean => status === 'ended';

const requestCountOf = ({ request_counts: counts }: BatchObject): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

const sourceOf = (batch: BatchObject): BatchSource => ({ id: batch.id, resultCount: requestCountOf(batch) });
