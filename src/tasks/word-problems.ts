import { jsonlTask } from './jsonl.ts';
import type { Task } from './task.ts';

/**
 * Word problems of two or three calculations with small numbers, generated (`generateWordProblems`) rather than downloaded. A data file of
 * them has a line for each: `{"id", "question", "solution", "gold"}`. Scored as GSM8K is.
 */
export const wordProblems: Task = jsonlTask({
  name: 'word-problems',
  instruction: 'End with #### and the number.',
  fields: { question: 'question', answer: 'gold', solution: 'solution', id: 'id' },
  scorer: { kind: 'number' },
});
