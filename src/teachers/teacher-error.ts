import { UserError } from '../base/errors.ts';
import type { Usage } from './teacher.ts';

/** What whoever asked should do after a request failed. */
export type RetryAdvice =
  /** Trying again cannot help: `all` requests will fail alike (a wrong key), or this `question` alone (too long for the model). */
  | { readonly retry: 'never'; readonly scope: 'all' | 'question' }
  /** Trying again can help, not before `retryAfterMs` where the provider said so. */
  | { readonly retry: 'later'; readonly retryAfterMs?: number }
  /** The provider asks everybody to slow down: all requests wait, and none has used up a try. */
  | { readonly retry: 'pause'; readonly retryAfterMs?: number };

/** A teacher did not answer. The message says what it said, without credentials. */
export class TeacherError extends UserError {
  override name = 'TeacherError';
  readonly advice: RetryAdvice;
  /** HTTP status, where there was one. */
  readonly status: number | undefined;
  /** What the failed answer cost, where the provider said so. */
  readonly usage: Usage | undefined;

  constructor(message: string, advice: RetryAdvice, details: { readonly status?: number; readonly usage?: Usage } = {}) {
    super(message);
    this.advice = advice;
    this.status = details.status;
    this.usage = details.usage;
  }
}
