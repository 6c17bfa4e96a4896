import { type Example, generateWordProblems, jsonlTask, readExamples, type Task, tasks, type WordProblemPart } from '../tasks/index.ts';
import type { TaskConfig } from './task-config.ts';

/** The task that a config means, and its questions. They are read when they are asked for: nobody opens the test questions by the way. */
export interface TaskData {
  readonly task: Task;
  readonly train: () => Promise<readonly Example[]>;
  /** Of the training split, after those trained on. */
  readonly development: () => Promise<readonly Example[]>;
  readonly test: () => Promise<readonly Example[]>;
}

/** @example const { task, train } = openTaskData(config.task); */
export const openTaskData = (config: TaskConfig): TaskData => {
  const { development, instruction } = config;
  const withInstruction = (task: Task): Task => (instruction === undefined ? task : { ...task, instruction });
  if (config.name === 'word-problems') {
    const { seed, fewestSteps, mostSteps } = config;
    const draw = (part: WordProblemPart, count: number) => generateWordProblems({ part, seed, count, fewestSteps, mostSteps });
    return {
      task: withInstruction(tasks['word-problems']),
      train: async () => draw('train', config.train.limit),
      // each problem is a function of part, seed and index, so the first ones are the training questions again
      development: async () => draw('train', config.train.limit + development.limit).slice(config.train.limit),
      test: async () => draw('test', config.test.limit),
    };
  }
  const task = withInstruction(
    config.name === 'gsm8k'
      ? tasks.gsm8k
      : jsonlTask({ name: config.name, instruction: instruction ?? '', fields: config.fields, scorer: config.scorer }),
  );
  const place = (split: 'train' | 'test'): string => (config.name === 'gsm8k' ? config.folder : config.files[split]);
  return {
    task,
    train: () => readExamples(task, place('train'), 'train', config.train),
    development: async () =>
      development.limit === 0
        ? []
        : readExamples(task, place('train'), 'train', { skip: config.train.skip + (config.train.limit ?? 0), limit: development.limit }),
    test: () => readExamples(task, place('test'), 'test', config.test),
  };
};
