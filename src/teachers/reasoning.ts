/** An answer without what was thought before it. */
export interface SeparatedAnswer {
  readonly text: string;
  readonly reasoning: string | undefined;
}

const opening = '<think>';
const closing = '</think>';

/**
 * Takes a leading `<think>…</think>` out of an answer. Some templates open it in the prompt, so that the answer holds only the end; in an
 * answer that was cut off while thinking, everything was thought.
 */
export const separateReasoning = (answer: string): SeparatedAnswer => {
  const start = answer.trimStart();
  const isOpened = start.startsWith(opening);
  const end = start.indexOf(closing);
  if (end < 0) return isOpened ? { text: '', reasoning: start.slice(opening.length).trim() } : { text: answer, reasoning: undefined };
  if (!isOpened && start.slice(0, end).includes(opening)) return { text: answer, reasoning: undefined }; // The answer speaks of the mark.
  return { text: start.slice(end + closing.length).trim(), reasoning: start.slice(isOpened ? opening.length : 0, end).trim() };
};
