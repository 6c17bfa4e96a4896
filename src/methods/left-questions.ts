import { readForgotten } from '../run-folder/forgotten.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import type { Questions } from './questions.ts';

/** The questions of a run without those that were forgotten. Throws where forgetting one was begun and not finished. */
export const leftQuestions = async (questions: Questions, run: RunFolder): Promise<Questions> => {
  const isForgotten = await readForgotten(run.path);
  return {
    ...questions,
    train: questions.train.filter(({ id }) => !isForgotten('train', id)),
    // Part of the training split, and what training is measured on.
    development: questions.development.filter(({ id }) => !isForgotten('train', id) && !isForgotten('test', id)),
    openTest: async () => (await questions.openTest()).filter(({ id }) => !isForgotten('test', id)),
  };
};
