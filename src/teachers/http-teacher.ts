import type { BatchingTeacher, BatchService } from './batches.ts';
import { defaultConcurrency, jsonOf, type ProviderConnection } from './provider-connection.ts';
import { isContentFilter } from './provider-failure.ts';
import type { RateLimit, TeacherAnswer, TeacherIdentity, TeacherRequest } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

/** How one provider's interface is spoken. */
export interface Dialect {
  /** Below the base URL. */
  readonly path: string;
  body(request: Pick<TeacherRequest, 'messages' | 'sampling'>): Record<string, unknown>;
  /** The answer in a body; undefined where the value is none. */
  parse(value: unknown): TeacherAnswer | undefined;
  /** From the headers, whose names are in lower case. */
  rateLimit(headers: Readonly<Record<string, string>>): RateLimit | undefined;
}

export interface HttpTeacherOptions {
  readonly identity: TeacherIdentity;
  readonly dialect: Dialect;
  readonly connection: ProviderConnection;
  readonly batches: BatchService;
  readonly concurrency?: number | undefined;
}

/** A teacher behind a URL. It asks once for each request; when to ask again is the collector's business. */
export const httpTeacher = (options: HttpTeacherOptions): BatchingTeacher => {
  const { identity, dialect, connection, batches, concurrency = defaultConcurrency } = options;
  return {
    identity,
    concurrency,
    batches,
    generate: async (request) => {
      const call = { method: 'POST', path: dialect.path, body: JSON.stringify(dialect.body(request)) } as const;
      return connection.exchange(
        call,
        ({ status, headers, body }) => {
          if (isContentFilter({ status, body, message: '' })) return { text: '', finishReason: 'content-filter' };
          const answer = status === 200 ? dialect.parse(jsonOf(connection.hide(body))) : undefined;
          if (answer === undefined) return undefined;
          const { usage, finishReason } = answer;
          if (answer.text.trim() === '' && finishReason !== 'length' && finishReason !== 'content-filter')
            throw new TeacherError(`${connection.where} sent an empty answer.`, { retry: 'later' }, { status, ...(usage && { usage }) });
          const rateLimit = dialect.rateLimit(headers);
          return { ...answer, ...(rateLimit && { rateLimit }) };
        },
        request.signal,
      );
    },
    release: connection.release,
  };
};
