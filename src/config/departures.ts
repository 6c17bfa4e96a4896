import { z } from 'zod';

/**
 * Departures from a sound protocol, by name, each with what it means for the numbers. They are there to repeat what others did: a run that
 * asks for one says so at the head of its report.
 */
export const departures = {
  'chosen-on-test':
    'settings were chosen by the questions that students are measured on, so their scores say less about new questions, and how much less is not known',
  'unequal-search': 'ways of training were searched with different budgets, so the one with more candidates had more chances to look good',
  'raw-text': 'teacher and student saw plain text without the chat template that they were trained with',
  'no-end-of-turn': 'the end of an answer was not learnt, so students may go on until the token limit',
} as const;

export type Departure = keyof typeof departures;

export const departuresSchema = z.array(z.enum(Object.keys(departures) as Departure[])).describe(
  `What the run does against a sound protocol, to repeat what others did; each is a warning at the head of the report. ${Object.entries(
    departures,
  )
    .map(([name, meaning]) => `${name}: ${meaning}.`)
    .join(' ')}`,
);
