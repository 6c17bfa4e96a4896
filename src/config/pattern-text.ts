import { z } from 'zod';
import { show } from './problem.ts';

/** A text of a certain form; `expected` puts the form into words. */
export const patternText = (pattern: RegExp, expected: string) =>
  z.string().regex(pattern, { error: (issue) => `expected ${expected}, came ${show(issue.input)}` });

/** A name that becomes part of a folder's name and of an arm's. */
export const armNameText = () =>
  patternText(/^[a-z0-9]+(?:[-._][a-z0-9]+)*$/, 'lower-case letters and digits, with single hyphens, dots or underscores between them');
