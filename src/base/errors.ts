/**
 * A mistake that the user can mend: wrong config, missing file, unfit data, a refusing server. The command line prints the message alone
 * and exits with 1. The message says what was expected, what came, where, and what to do.
 */
export class UserError extends Error {
  override name = 'UserError';
}

/** A mistake of this project's own. The command line exits with 2 and asks for a report. */
export class InternalError extends Error {
  override name = 'InternalError';
  constructor(message: string, options?: ErrorOptions) {
    super(`internal: ${message}`, options);
  }
}

/** Shapes or element types that do not fit the op they were given to. Models and losses are our own code, so it is a bug of ours. */
export class ShapeError extends InternalError {
  override name = 'ShapeError';
}

/** The text of anything thrown. */
export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));

/** The known name that is nearest to a misspelt one by edit distance, if any is near enough to be meant. */
export const nearestName = (name: string, known: readonly string[]): string | undefined => {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance <= Math.max(2, Math.floor(name.length / 3)) ? best.candidate : undefined;
};

/** Levenshtein distance in characters. */
const editDistance = (a: string, b: string): number => {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
};
