import { UserError } from '../base/errors.ts';

const notFiniteName = 'NotFiniteError';

/** A training whose numbers ran away. Its name survives the way between threads, which its class does not. */
export class NotFiniteError extends UserError {
  override name = notFiniteName;
}

export const isNotFinite = (error: unknown): error is Error => error instanceof Error && error.name === notFiniteName;
