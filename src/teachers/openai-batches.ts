import { z } from 'zod';
import { batchResults } from './batch-results.ts';
import type { BatchFormat, BatchService, BatchState } from './batches.ts';
import { type ChatCompletionSettings, chatCompletionBody, parseChatCompletion } from './chat-completion.ts';
import type { HttpAnswer } from './http-client.ts';
import { jsonOf, type ProviderConnection } from './provider-connection.ts';
import { isContentFilter, teacherErrorOf } from './provider-failure.ts';
import { excerptOf, redactor } from './redact.ts';
import type { TeacherAnswer } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

/** Lines of OpenAI's batch interface, with its limits; vLLM's `run-batch` reads and writes the same and has none. */
export const openAiBatchFormat = (settings: ChatCompletionSettings, secrets: readonly string[] = []): BatchFormat => {
  const where = `${settings.model} in a batch`;
  const outcomeOf = ({ response, error }: z.infer<typeof outputLine>): TeacherAnswer | TeacherError => {
    if (response === undefined || response === null) {
      const said = excerptOf(error?.message ?? error?.code ?? 'no reason given', redactor(secrets)).replace(/\.$/, '');
      return new TeacherError(`The batch did not answer: ${said}.`, { retry: 'later' });
    }
    const answer = response.status_code === 200 ? parseChatCompletion(response.body) : undefined;
    if (answer !== undefined) return answer;
    const failure = { status: response.status_code, body: JSON.stringify(response.body) ?? '', message: '' };
    if (isContentFilter(failure)) return { text: '', finishReason: 'content-filter' };
    return teacherErrorOf(failure, where, redactor(secrets), 0);
  };
  return {
    limits: { requestCount: 50_000, sizeBytes: 200_000_000 },
    priceShare: 0.5,
    requestLine: (id, request) =>
      JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body: chatCompletionBody(request, settings) }),
    parseResult: (value) => {
      const parsed = outputLine.safeParse(value);
      // A line of an input, which has neither, is no result.
      const isResult = parsed.success && (parsed.data.response != null || parsed.data.error != null);
      return isResult ? { id: parsed.data.custom_id, outcome: outcomeOf(parsed.data) } : undefined;
    },
  };
};

const outputLine = z.object({
  custom_id: z.string(),
  response: z.object({ status_code: z.number(), body: z.unknown() }).nullish(),
  error: z.object({ code: z.string().nullish(), message: z.string().nullish() }).nullish(),
});

const fileObject = z.object({ id: z.string() });

const batchObject = z.object({
  id: z.string(),
  status: z.string(),
  created_at: z.number().nullish(),
  output_file_id: z.string().nullish(),
  error_file_id: z.string().nullish(),
  errors: z.object({ data: z.array(z.object({ code: z.string().nullish(), message: z.string().nullish() })).nullish() }).nullish(),
  request_counts: z.object({ completed: z.number(), failed: z.number() }).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
});
type BatchObject = z.infer<typeof batchObject>;

const batchList = z.object({ data: z.array(batchObject), has_more: z.boolean().nullish() });

/** The key in a batch's metadata under which its name stands. */
const nameKey = 'retort';

/** Clocks of two machines differ by less. */
const clockSlackMs = 3_600_000;

/** Batches by `/files` and `/batches`. A batch carries its job's name as metadata, by which it is found again after a kill. */
export const openAiBatches = (connection: ProviderConnection, format: BatchFormat): BatchService => {
  const read =
    <T>(schema: z.ZodType<T>) =>
    ({ status, body }: HttpAnswer): T | undefined =>
      status === 200 ? schema.safeParse(jsonOf(body)).data : undefined;
  return {
    format,
    mark: () => Promise.resolve(undefined),
    submit: async ({ name }, lines, signal) => {
      const { body, contentType } = fileForm(`${name}.jsonl`, lines);
      const file = await connection.exchange({ method: 'POST', path: '/files', body, contentType }, read(fileObject), signal);
      const batch = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h', metadata: { [nameKey]: name } };
      const call = { method: 'POST', path: '/batches', body: JSON.stringify(batch) } as const;
      return (await connection.exchange(call, read(batchObject), signal)).id;
    },
    find: async ({ name, plannedAtMs }, _known, signal) => {
      for (let after: string | undefined; ; ) {
        const path = `/batches?limit=100${after === undefined ? '' : `&after=${encodeURIComponent(after)}`}`;
        const { data, has_more: hasMore } = await connection.exchange({ method: 'GET', path }, read(batchList), signal);
        const own = data.find(({ metadata }) => metadata?.[nameKey] === name);
        if (own !== undefined) return { found: 'yes', providerId: own.id };
        // The newest come first: what is older than the job is not it.
        const last = data.at(-1);
        const isOlder = last?.created_at != null && last.created_at * 1000 < plannedAtMs - clockSlackMs;
        if (hasMore !== true || last === undefined || isOlder) return { found: 'no' };
        after = last.id;
      }
    },
    poll: async (providerId, signal) =>
      stateOf(
        await connection.exchange({ method: 'GET', path: `/batches/${encodeURIComponent(providerId)}` }, read(batchObject), signal),
        connection,
      ),
    results: async function* (sources, signal) {
      for (const source of sources)
        yield* batchResults(source, `/files/${encodeURIComponent(source.id)}/content`, format, connection, signal);
    },
  };
};

const ended = new Set(['completed', 'expired', 'cancelled']);

const stateOf = (batch: BatchObject, { where, secrets }: ProviderConnection): BatchState => {
  const { status, output_file_id: output, error_file_id: error } = batch;
  if (status === 'failed') {
    const [first] = batch.errors?.data ?? [];
    const said = excerptOf(first?.message ?? first?.code ?? 'no reason given', redactor(secrets)).replace(/\.$/, '');
    const problem = new TeacherError(`${where} refused the batch ${batch.id}: ${said}.`, { retry: 'never', scope: 'all' });
    return { status: 'refused', problem, isTooMuch: first?.code === 'token_limit_exceeded' };
  }
  if (!ended.has(status)) return { status: 'under-way' };
  const sources = [
    { id: output, resultCount: batch.request_counts?.completed ?? 1 },
    // Requests that came too late stand there, too, and are not counted as failed.
    { id: error, resultCount: batch.request_counts?.failed ?? 1 },
  ];
  return {
    status: 'ended',
    sources: sources.flatMap(({ id, resultCount }) => (typeof id === 'string' ? [{ id, resultCount: Math.max(1, resultCount) }] : [])),
  };
};

/** multipart/form-data (RFC 7578) of one file for batches. */
const fileForm = (fileName: string, lines: readonly string[]): { readonly body: Buffer; readonly contentType: string } => {
  // No line of JSON begins with a hyphen, so that this stands nowhere else.
  const boundary = `--retort-${fileName.replace(/\W/g, '')}`;
  const head =
    `--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n` +
    `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="${fileName}"\r\ncontent-type: application/jsonl\r\n\r\n`;
  const pieces = [head, ...lines.map((line) => `${line}\n`), `\r\n--${boundary}--\r\n`].map((text) => Buffer.from(text));
  return { body: Buffer.concat(pieces), contentType: `multipart/form-data; boundary=${boundary}` };
};
