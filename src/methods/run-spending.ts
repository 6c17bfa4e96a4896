import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import { readAnswerRecords } from '../evaluation/answer-record.ts';
import { readReserved } from '../responses/batch-jobs.ts';
import { readSpending } from '../responses/response-store.ts';
import { addSpending, nothingSpent, type Spending } from '../responses/spending.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';

/**
 * What the run's answers and verdicts cost, the teacher's own answers to the test questions among them, and what its batches under way may cost, but
 * for one folder's: the budget is the run's.
 *
 * @param folder of answers or verdicts that are counted by whoever asks; absent: none are
 */
export const spentElsewhere = async (
  folder: string | undefined,
  { config, run }: { readonly config: Pick<RunConfig, 'arms'>; readonly run: Pick<RunFolder, 'paths'> },
): Promise<Spending> => {
  const folders = config.arms.flatMap(({ name }) => [join(run.paths.responses, name), join(run.paths.verdicts, name)]);
  const others = folders.filter((other) => other !== folder);
  const spent = await Promise.all(others.flatMap((other) => [readSpending(other), readReserved(other)]));
  return [...spent, await spentOnTest(run)].reduce(addSpending, nothingSpent);
};

const spentOnTest = async ({ paths }: Pick<RunFolder, 'paths'>): Promise<Spending> => {
  const file = paths.answers({ kind: 'teacher' });
  const records = existsSync(file) ? await readAnswerRecords(file) : [];
  return records
    .map(({ promptTokenCount, tokenCount, costUsd }) => ({
      usd: costUsd ?? 0,
      tokens: (promptTokenCount ?? 0) + (tokenCount ?? 0),
      requests: 1,
    }))
    .reduce(addSpending, nothingSpent);
};
