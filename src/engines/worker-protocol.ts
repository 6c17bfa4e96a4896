import { UserError } from '../base/errors.ts';
import type { Sample } from './engine.ts';

/** To the worker. Calls go by a method's name and its arguments, all data. */
export type Request =
  | { readonly kind: 'call'; readonly id: number; readonly method: string; readonly arguments: readonly unknown[] }
  /** Aborts the sampling that is under way under this id. */
  | { readonly kind: 'abort'; readonly id: number }
  /** Ends the worker when the call under way is done: it must never be ended inside a run, which aborts the process. */
  | { readonly kind: 'release' };

/** From the worker. */
export type Reply<Ready> =
  | { readonly kind: 'ready'; readonly ready: Ready }
  | { readonly kind: 'failed'; readonly error: SentError }
  | { readonly kind: 'result'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'error'; readonly id: number; readonly error: SentError }
  | { readonly kind: 'sample'; readonly id: number; readonly index: number; readonly sample: Sample };

/** An error's class does not survive the way between threads, and it decides the exit code: it travels as a name. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly isUserError: boolean;
}

/** An error for the way to another thread. */
export const sentError = (thrown: unknown): SentError => {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return { name: error.name, message: error.message, stack: error.stack, isUserError: error instanceof UserError };
};

/** The error of the other side, as one of this side's classes. */
export const receivedError = ({ name, message, stack, isUserError }: SentError): Error => {
  const error = isUserError ? new UserError(message) : new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
};
