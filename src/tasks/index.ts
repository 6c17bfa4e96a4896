import { gsm8k } from './gsm8k.ts';
import type { Task } from './task.ts';
import { wordProblems } from './word-problems.ts';

/** The tasks that come with retort. A task of one's own is made with `jsonlTask`. */
export const tasks: Record<TaskName, Task> = { gsm8k, 'word-problems': wordProblems };

export type TaskName = 'gsm8k' | 'word-problems';

export { type JsonlScorer, type JsonlTaskOptions, jsonlTask } from './jsonl.ts';
export { type ReadExamplesOptions, readExamples } from './read-examples.ts';
export type { AnswerScore, Example, ExamplePlace, Task } from './task.ts';
export { generateWordProblems, type WordProblem, type WordProblemOptions, type WordProblemPart } from './word-problem-generator.ts';
