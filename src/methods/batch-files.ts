import { lockFolder } from '../base/folder-lock.ts';
import { ownerOnlyFolder } from '../base/folders.ts';
import { type BatchOptions, type ReadBatch, readBatchFile, type WrittenBatch, writeBatchFiles } from '../responses/batch-file.ts';
import { discounted } from '../responses/spending.ts';
import { createRun } from '../run-folder/run-folder.ts';
import type { BatchFormat } from '../teachers/batches.ts';
import { teacherProfile } from '../teachers/create-teacher.ts';
import { curateQuestionsOfRun } from './curate-questions.ts';
import { redactHookOf } from './hooks.ts';
import { primedArms } from './plan-collection.ts';
import { questionsOf } from './questions.ts';
import { type RunOptions, runBeginning } from './run-plan.ts';
import { collectionOf } from './sources.ts';
import type { Surroundings } from './surroundings.ts';

/** What `retort collect --write-batch` does: the requests of all arms that have no answer yet, as files to hand in oneself. Nothing is sent. */
export const writeRunBatch = (options: RunOptions, surroundings: Surroundings, file: string): Promise<WrittenBatch> =>
  withCollections(options, surroundings, (format, collections) => writeBatchFiles(file, format, collections));

/** What `retort collect --read-batch` does: the answers of such files go into the arms that asked for them. */
export const readRunBatch = (options: RunOptions, surroundings: Surroundings, file: string): Promise<ReadBatch> =>
  withCollections(options, surroundings, (format, collections) => readBatchFile(file, format, collections));

const withCollections = async <T>(
  options: RunOptions,
  surroundings: Surroundings,
  work: (format: BatchFormat, collections: readonly BatchOptions[]) => Promise<T>,
): Promise<T> => {
  const { config, folder } = options;
  const questions = await questionsOf(config.task, surroundings);
  const { task } = questions;
  const redact = await redactHookOf(config);
  const arms = primedArms(config);
  const lock = await lockFolder(folder, ownerOnlyFolder);
  try {
    const run = await createRun(folder, runBeginning(options, task, surroundings));
    const { train } = await curateQuestionsOfRun(questions, { run, config, surroundings });
    // An arm that asks has a teacher: the config was checked for it.
    const { identity, batchFormat } = await teacherProfile(config.teacher ?? { kind: 'fake' });
    const collections: BatchOptions[] = [];
    for (const arm of arms) {
      const { prices, ...collection } = await collectionOf(arm, { identity }, { config, run, task, examples: train, redact, surroundings });
      collections.push({ ...collection, ...(prices && { prices: discounted(prices, batchFormat.priceShare) }) });
    }
    return await work(batchFormat, collections);
  } finally {
    await lock.release();
  }
};
