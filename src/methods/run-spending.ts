import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import { readAnswerRecords } from '../evaluation/answer-record.ts';
import { readReserved } from '../responses/batch-jobs.ts';
import { readSpending } from '../responses/response-store.ts';
import { addSpending, nothingSpent, type Prices, type Spending, spendingFor } from '../responses/spending.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';

export interface SpendingPlace {
  readonly config: Pick<RunConfig, 'arms'>;
  readonly run: Pick<RunFolder, 'paths'>;
  /** Of the run's teacher. */
  readonly prices?: Prices | undefined;
}

/**
 * What the run's answers and verdicts cost, the teacher's own answers to the test questions among them, and what its batches under way may cost, but
 * for one folder's: the budget is the run's.
 *
 * @param folder of answers or verdicts that are counted by whoever asks; absent: none are
 */
export const spentElsewhere = async (folder: string | undefined, { config, run, prices }: SpendingPlace): Promise<Spending> => {
  const folders = config.arms.flatMap(({ name }) => [join(run.paths.responses, name), join(run.paths.verdicts, name)]);
  const others = folders.filter((other) => other !== folder);
  const spent = await Promise.all(others.flatMap((other) => [readSpending(other), readReserved(other)]));
  return [...spent, await spentOnTest(run, prices)].reduce(addSpending, nothingSpent);
};

/** Answers of earlier versions say what tokens they took and no more: they count as one request each, at today's prices. */
const spentOnTest = async ({ paths }: SpendingPlace['run'], prices: Prices | undefined): Promise<Spending> => {
  const file = paths.answers({ kind: 'teacher' });
  const records = existsSync(file) ? await readAnswerRecords(file) : [];
  return records
    .map(({ spent, promptTokenCount, tokenCount }) =>
      spent === undefined
        ? spendingFor({ promptTokens: promptTokenCount ?? 0, completionTokens: tokenCount ?? 0 }, prices)
        : { usd: 0, ...spent },
    )
    .reduce(addSpending, nothingSpent);
};
