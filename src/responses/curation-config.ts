import { z } from 'zod';

/** What happens to rows that were found: left out, left in and listed, the work refused, or not looked for at all. */
const actions = ['drop', 'keep', 'refuse', 'off'] as const;
export type CurationAction = (typeof actions)[number];

/** Which rows are not to be learnt from, whatever their answers say. */
export const curationShape = {
  decontamination: z
    .strictObject({
      action: z
        .enum(actions)
        .exactOptional()
        .describe(
          'drop: leave them out; keep: list them; refuse: stop; off: do not look. Without it drop, and off for generated questions.',
        ),
      wordCount: z
        .int()
        .min(1)
        .default(13)
        .describe('Words in a row that count as an overlap, whatever their case, punctuation and number format.'),
    })
    .prefault({})
    .describe('Training rows that share words with a question that students are measured on (test and development).'),
  duplicates: z
    .strictObject({
      action: z
        .enum(actions)
        .default('keep')
        .describe('keep: list them; drop: leave all but the first out; refuse: stop; off: do not look.'),
      similarity: z
        .number()
        .gt(0)
        .max(1)
        .default(0.8)
        .describe('Shared runs of five words (Jaccard) from which two texts count as one; 1: the same words only.'),
    })
    .prefault({})
    .describe('Training rows that say what an earlier one says.'),
};

/** The resolved settings of one curation. */
export interface CurationSettings {
  readonly decontamination: { readonly action: CurationAction; readonly wordCount: number };
  readonly duplicates: { readonly action: CurationAction; readonly similarity: number };
}
