import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { hasCode } from '../base/folders.ts';
import { appendJsonLines, readJsonLines } from '../base/json-lines.ts';
import type { BatchJob } from '../teachers/batches.ts';
import { addSpending, nothingSpent, type Spending } from './spending.ts';

/** The record of a folder's batches: what was handed to a provider, written before it is. */
export const batchJobsFile = (folder: string): string => join(folder, 'batches.jsonl');

/** A batch of a folder, as far as it has come. */
export interface RecordedJob extends BatchJob {
  /** What its requests cost when they are answered in full; nothing once its answers are here. */
  readonly reserved: Spending;
  /** Absent where the provider has not confirmed it. */
  readonly providerId?: string;
  /** Requests of which it may still have an answer to give. */
  readonly openIds: readonly string[];
}

const spendingSchema = z.object({ usd: z.number(), tokens: z.number(), requests: z.number() });

const eventSchema = z.discriminatedUnion('event', [
  z.object({
    event: z.literal('planned'),
    name: z.string(),
    plannedAtMs: z.number(),
    mark: z.string().exactOptional(),
    reserved: spendingSchema,
    ids: z.array(z.string()),
  }),
  z.object({ event: z.literal('submitted'), name: z.string(), providerId: z.string() }),
  /** Its answers are in the store, or it has none to give. `openIds`: requests that the collection of the time did not have. */
  z.object({ event: z.literal('settled'), name: z.string(), openIds: z.array(z.string()) }),
]);
type JobEvent = z.infer<typeof eventSchema>;

const withEvent = (jobs: Map<string, RecordedJob>, event: JobEvent): void => {
  if (event.event === 'planned') {
    const { event: _, ...job } = event;
    jobs.set(job.name, { ...job, openIds: job.ids });
    return;
  }
  const job = jobs.get(event.name);
  if (job === undefined) return;
  if (event.event === 'submitted') jobs.set(event.name, { ...job, providerId: event.providerId });
  else if (event.openIds.length === 0) jobs.delete(event.name);
  else jobs.set(event.name, { ...job, openIds: event.openIds, reserved: nothingSpent });
};

const readJobs = async (folder: string): Promise<Map<string, RecordedJob>> => {
  const jobs = new Map<string, RecordedJob>();
  const path = batchJobsFile(folder);
  const isThere = await stat(path).then(
    () => true,
    (thrown: unknown) => {
      if (hasCode(thrown, 'ENOENT', 'ENOTDIR')) return false;
      throw thrown;
    },
  );
  if (!isThere) return jobs;
  for await (const { line, value } of readJsonLines(path)) {
    const { data } = eventSchema.safeParse(value);
    if (data === undefined) throw new UserError(`${path}:${line}: not a record of batches of this version. Was it edited?`);
    withEvent(jobs, data);
  }
  return jobs;
};

/** What batches under way may cost; nothing where there is no folder. */
export const readReserved = async (folder: string): Promise<Spending> => reservedOf((await readJobs(folder)).values());

/** Throws where some of these questions are in batches under way: asked one by one they would be bought twice. */
export const refuseUnderWay = async (folder: string, open: readonly { readonly requestKey: string }[]): Promise<void> => {
  const underWay = new Set([...(await readJobs(folder)).values()].flatMap(({ openIds }) => openIds));
  const count = underWay.size === 0 ? 0 : open.filter(({ requestKey }) => underWay.has(requestKey)).length;
  if (count > 0)
    throw new UserError(
      `${count} of ${open.length} open questions are under way in batches, and asked one by one they would be bought twice. Set collection.batch to fetch them; to give them up, delete ${batchJobsFile(folder)}.`,
    );
};

export const reservedOf = (jobs: Iterable<RecordedJob>): Spending =>
  [...jobs].map(({ reserved }) => reserved).reduce(addSpending, nothingSpent);

/** The batches of a folder, each step on the disk before it counts. */
export interface BatchJobs {
  /** By name; those that have nothing more to give are gone. */
  readonly jobs: ReadonlyMap<string, RecordedJob>;
  plan(job: BatchJob & { readonly reserved: Spending }): Promise<void>;
  confirm(name: string, providerId: string): Promise<void>;
  settle(name: string, openIds: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Opens a folder's batches. Whoever does so holds the folder's store. */
export const openBatchJobs = async (folder: string): Promise<BatchJobs> => {
  const jobs = await readJobs(folder);
  const lines = await appendJsonLines(batchJobsFile(folder));
  const record = async (event: JobEvent): Promise<void> => {
    await lines.append(event);
    withEvent(jobs, event);
  };
  return {
    jobs,
    plan: ({ name, plannedAtMs, mark, reserved, ids }) =>
      record({ event: 'planned', name, plannedAtMs, ...(mark !== undefined && { mark }), reserved, ids: [...ids] }),
    confirm: (name, providerId) => record({ event: 'submitted', name, providerId }),
    settle: (name, openIds) => record({ event: 'settled', name, openIds: [...openIds] }),
    close: () => lines.close(),
  };
};
