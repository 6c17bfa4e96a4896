import { z } from 'zod';
import { type CurationSettings, curationShape } from '../responses/curation-config.ts';

/** The curation of a run, which has arms to match. */
export const runCurationSchema = z
  .strictObject({
    ...curationShape,
    matching: z
      .enum(['questions', 'none'])
      .default('questions')
      .describe(
        'questions: every arm is trained on the questions to which all arms have an answer. none: each on its own, so that arms differ in their questions, too.',
      ),
  })
  .describe('Which rows are not learnt from: those that the evaluation asks for, and those that say the same twice.');

/** The curation of `retort train`. */
export const trainCurationSchema = z
  .strictObject(curationShape)
  .describe('Which rows are not learnt from: those that the evaluation data asks for, and those that say the same twice.');

type GivenCuration = z.output<typeof trainCurationSchema>;

/** Every default filled in. Generated problems share their sentences, and no problem of one part is in another: nothing is looked for there. */
export const curationSettings = <Given extends GivenCuration>(given: Given, isGenerated: boolean): Given & CurationSettings => ({
  ...given,
  decontamination: { ...given.decontamination, action: given.decontamination.action ?? (isGenerated ? 'off' : 'drop') },
});
