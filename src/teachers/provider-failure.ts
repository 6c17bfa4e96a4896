import { z } from 'zod';
import { messageOf } from '../base/errors.ts';
import { excerptOf, type Redact } from './redact.ts';
import { type RetryAdvice, TeacherError } from './teacher-error.ts';

/** A failed request as an HTTP client reports it. */
export interface ProviderFailure {
  /** Absent when no answer came. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** What the client said, where the body says nothing. */
  readonly message: string;
}

/** Codes that stand in the body of an error and change what helps. */
const outOfMoney = /insufficient_quota|billing_hard_limit|billing_not_active|credit balance|insufficient (?:balance|credit|funds)/i;
const questionTooLong = /context_length_exceeded|string_above_max_length|maximum context length|prompt is too long/i;
const filtered = /content_filter|content_policy_violation|ResponsibleAIPolicyViolation/;

/** Whether the provider's filter refused this question: an answer of a kind, not a failure of the service. */
export const isContentFilter = ({ status, body = '' }: ProviderFailure): boolean =>
  (status === 400 || status === 422) && filtered.test(body);

/** The error to throw for a failed request. `nowMs` reads a Retry-After that names a date. */
export const teacherErrorOf = (failure: ProviderFailure, where: string, redact: Redact, nowMs: number): TeacherError => {
  const { status } = failure;
  const said = whatWasSaid(failure, redact);
  const advice = adviceFor(failure, nowMs);
  const details = status === undefined ? {} : { status };
  if (status === undefined) return new TeacherError(`${where} could not be reached: ${said}.`, advice, details);
  if (status < 300) return new TeacherError(`${where} answered ${status}, but not with an answer: ${said}.`, advice, details);
  return new TeacherError(`${where} answered ${status}: ${said}.${hintFor(status)}`, advice, details);
};

const adviceFor = (failure: ProviderFailure, nowMs: number): RetryAdvice => {
  const { status, body = '', headers = {} } = failure;
  const retryAfterMs = retryAfterOf(headers, nowMs);
  const later = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (status === undefined) return isCertificateProblem(failure.message) ? { retry: 'never', scope: 'all' } : { retry: 'later' };
  if (status === 429) return outOfMoney.test(body) ? { retry: 'never', scope: 'all' } : { retry: 'pause', ...later };
  if (status === 402) return { retry: 'never', scope: 'all' };
  // 408 timeout, 409 conflict, 425 too early: the same request may pass. Below 300: a page or half an answer from something in between.
  if (status >= 500 || status < 300 || [408, 409, 425].includes(status)) return { retry: 'later', ...later };
  return { retry: 'never', scope: [400, 413, 422].includes(status) && questionTooLong.test(body) ? 'question' : 'all' };
};

/** Milliseconds from `retry-after-ms`, or from `Retry-After` as seconds or a date (RFC 9110, 10.2.3). */
export const retryAfterOf = (headers: Readonly<Record<string, string>>, nowMs: number): number | undefined => {
  const ms = Number.parseFloat(headers['retry-after-ms'] ?? '');
  if (ms >= 0) return ms;
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  if (/^\s*\d+(\.\d+)?\s*$/.test(text)) return Number.parseFloat(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
};

const hintFor = (status: number): string => {
  if (status === 401 || status === 403) return ' Check the key and what it may do.';
  if (status === 404) return ' Check baseUrl (it usually ends in /v1) and the name of the model.';
  if (status >= 300 && status < 400) return ' Redirects are not followed: name the final address as baseUrl.';
  return '';
};

const isCertificateProblem = (message: string): boolean => /certificate|self.signed|CERT_|altname/i.test(message);

const errorBody = z.union([
  z.object({ error: z.union([z.object({ message: z.string() }), z.string()]) }),
  z.object({ message: z.string() }),
  z.object({ detail: z.string() }),
]);

/** The provider's own message where the body has the usual form, otherwise the beginning of the body. */
const whatWasSaid = ({ body, message }: ProviderFailure, redact: Redact): string => {
  if (body === undefined) return excerptOf(message, redact);
  if (body.trim() === '') return 'an empty body';
  const parsed = errorBody.safeParse(jsonOf(body));
  if (parsed.success) {
    const found =
      'error' in parsed.data ? (typeof parsed.data.error === 'string' ? parsed.data.error : parsed.data.error.message) : undefined;
    const said = found ?? ('message' in parsed.data ? parsed.data.message : 'detail' in parsed.data ? parsed.data.detail : '');
    return excerptOf(said, redact).replace(/\.$/, '');
  }
  const kind = /^\s*<(!doctype|html|\?xml)/i.test(body)
    ? 'a web page'
    : /^\s*[{[]/.test(body)
      ? 'JSON that is broken off or of another form'
      : 'text';
  return `${kind}: ${excerptOf(body, redact)}`;
};

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    return messageOf(thrown);
  }
};
