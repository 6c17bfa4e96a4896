import type { TaskConfig } from '../config/task-config.ts';
import type { DataAccess } from '../data/open-data.ts';
import { type Example, generateWordProblems, jsonlTask, readExamples, type Task, tasks } from '../tasks/index.ts';

/** A task and the questions that a run uses of it. Development questions belong to the training split and are never trained on. */
export interface Questions {
  readonly task: Task;
  readonly train: readonly Example[];
  readonly development: readonly Example[];
  /** Opened only when everything that is chosen has been chosen. */
  readonly openTest: () => Promise<readonly Example[]>;
}

/** The questions that a config means. */
export const questionsOf = async (config: TaskConfig, access: DataAccess = {}): Promise<Questions> => {
  const task = withInstruction(taskOf(config), config.instruction);
  if (config.name === 'word-problems') {
    const { train, development, test, seed, fewestSteps, mostSteps } = config;
    const drawn = generateWordProblems({ part: 'train', seed, count: train.limit + development.limit, fewestSteps, mostSteps });
    return {
      task,
      train: drawn.slice(0, train.limit),
      development: drawn.slice(train.limit),
      openTest: async () => generateWordProblems({ part: 'test', seed, count: test.limit, fewestSteps, mostSteps }),
    };
  }
  const paths = config.name === 'gsm8k' ? { train: config.folder, test: config.folder } : config.files;
  const { train, development, test } = config;
  const read = (split: 'train' | 'test', limit: number | undefined, skip: number) =>
    readExamples(task, paths[split], split, {
      skip,
      dataSplit: config[split].split ?? split,
      access,
      ...(limit !== undefined && { limit }),
    });
  return {
    task,
    train: await read('train', train.limit, train.skip),
    development: development.limit === 0 ? [] : await read('train', development.limit, train.skip + (train.limit ?? 0)),
    openTest: () => read('test', test.limit, test.skip),
  };
};

const taskOf = (config: TaskConfig): Task => {
  if (config.name !== 'jsonl') return tasks[config.name];
  const { fields, scorer, instruction } = config;
  return jsonlTask({ name: config.name, instruction: instruction ?? '', fields, scorer });
};

const withInstruction = (task: Task, instruction: string | undefined): Task =>
  instruction === undefined ? task : { ...task, instruction };
