import { join } from 'node:path';
import type { RunConfig } from '../config/run-config.ts';
import { readReserved } from '../responses/batch-jobs.ts';
import { readSpending } from '../responses/response-store.ts';
import { addSpending, nothingSpent, type Spending } from '../responses/spending.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';

/** What the run's answers and verdicts cost, and what its batches under way may cost, but for one folder's: the budget is the run's. */
export const spentElsewhere = async (
  folder: string,
  { config, run }: { readonly config: Pick<RunConfig, 'arms'>; readonly run: Pick<RunFolder, 'paths'> },
): Promise<Spending> => {
  const folders = config.arms.flatMap(({ name }) => [join(run.paths.responses, name), join(run.paths.verdicts, name)]);
  const others = folders.filter((other) => other !== folder);
  const spent = await Promise.all(others.flatMap((other) => [readSpending(other), readReserved(other)]));
  return spent.reduce(addSpending, nothingSpent);
};
