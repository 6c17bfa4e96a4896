import type { AnswerScore } from './task.ts';

/**
 * Scores a numeric answer exactly as lm-evaluation-harness 0.4.13 does in its task `gsm8k`: `strict-match` takes the first `#### number`,
 * `flexible-extract` the last number anywhere. Extractions are what the harness's filters return, before anything is ignored.
 */
export const scoreNumber = (answer: string, gold: string): AnswerScore => {
  const strictExtraction = /#### (-?[0-9.,]+)/.exec(answer)?.[1];
  const flexibleExtraction = answer.match(/-?[$0-9.,]{2,}|-?[0-9]+/g)?.at(-1);
  const expected = normaliseNumber(gold);
  // Most right answers are written as the gold one is.
  const equals = (extraction: string | undefined): boolean => extraction === gold || normaliseNumber(extraction ?? noMatch) === expected;
  return {
    strictExtraction,
    flexibleExtraction,
    strict: equals(strictExtraction),
    flexible: equals(flexibleExtraction),
    followsFormat: strictExtraction !== undefined,
  };
};

/** What the harness puts where a filter found nothing; it is then compared like an answer. */
const noMatch = '[invalid]';

/**
 * The harness's `regexes_to_ignore`, in its order, on answer and gold alike: commas, dollars, everything up to the last `#### `, a final
 * full stop (Python's `$` also stands before a last newline); then lower case.
 */
const normaliseNumber = (text: string): string =>
  text
    .replace(/,/g, '')
    .replace(/\$/g, '')
    .replace(/.*#### /gs, '')
    .replace(/\.(?=\n?$)/, '')
    .toLowerCase();
