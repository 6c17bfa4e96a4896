import type { AnswerRecord } from './answer-record.ts';

/**
 * Whether an answer that the token limit cut off would have gone on and on: more text follows its final answer in the asked form, or it
 * repeats itself. The others of those cut off were still under way, and a higher limit might have let them arrive.
 */
export const neverStops = ({
  finishReason,
  followsFormat,
  strictExtraction,
  text,
}: Pick<AnswerRecord, 'followsFormat' | 'strictExtraction' | 'text'> & {
  readonly finishReason?: AnswerRecord['finishReason'];
}): boolean => {
  if (finishReason !== 'length') return false;
  const hasAnswered = followsFormat && strictExtraction !== null && !text.trimEnd().endsWith(strictExtraction);
  return hasAnswered || endsRepeating(text);
};

/** A loop is seen by so many rounds of one stretch at the end, and by so many characters that they make up at least. */
const roundCount = 3;
const leastLength = 24;

/** Whether a text ends in one stretch three times over; dots and digits in a row are no loop before they fill 24 characters. */
export const endsRepeating = (text: string): boolean => {
  for (let period = 1; period * roundCount <= text.length; period++) {
    const start = text.length - Math.max(leastLength, period * roundCount);
    if (start < 0) return false;
    let at = text.length - 1 - period;
    while (at >= start && text[at] === text[at + period]) at--;
    if (at < start) return true;
  }
  return false;
};
