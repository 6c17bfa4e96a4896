import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, UserError } from '../base/errors.ts';
import { hasCode, sha256, writeJsonAtomic } from '../base/folders.ts';

/** Where a question belongs: what is trained on, or what is measured on (development questions too). */
export type QuestionSplit = 'train' | 'test';

const forgottenSchema = z.strictObject({
  format: z.literal('retort-forgotten'),
  questions: z.array(z.strictObject({ at: z.iso.datetime(), split: z.enum(['train', 'test']), idHash: z.string() })),
});

const journalSchema = z.strictObject({
  id: z.string(),
  split: z.enum(['train', 'test']),
  students: z.enum(['mark', 'remove']),
  /** Students that saw it, by their folders' names. */
  saw: z.array(z.string()),
  /** Keys of the answers made for it or from it: verdicts on them are found by these. */
  keys: z.array(z.string()),
  /** Texts of it and of what was made from it, to look for in other files. */
  texts: z.array(z.string()),
});

/** What is being forgotten, from the first file that is changed to the last. */
export type ForgettingJournal = z.infer<typeof journalSchema>;

/** Stands in the folder of a student that saw a forgotten question, until it is trained anew. */
export const forgottenMark = 'saw-forgotten-question.json';

const forgottenFile = (folder: string): string => join(folder, 'forgotten.json');
const journalFile = (folder: string): string => join(folder, 'forgetting.json');

/** A journal that a process left which was stopped while it forgot. */
export const readForgettingJournal = (folder: string): Promise<ForgettingJournal | undefined> =>
  readParsed(journalFile(folder), journalSchema);

export const writeForgettingJournal = (folder: string, journal: ForgettingJournal): Promise<void> =>
  writeJsonAtomic(journalFile(folder), journal);

/** Notes that a question was forgotten, by a hash of its id, and that nothing is left to do. */
export const finishForgetting = async (folder: string, { id, split }: ForgettingJournal, now: Date): Promise<void> => {
  const { questions } = (await readParsed(forgottenFile(folder), forgottenSchema)) ?? { questions: [] };
  const idHash = sha256(id);
  const isKnown = questions.some((question) => question.split === split && question.idHash === idHash);
  const all = isKnown ? questions : [...questions, { at: now.toISOString(), split, idHash }];
  await writeJsonAtomic(forgottenFile(folder), { format: 'retort-forgotten', questions: all });
  await rm(journalFile(folder), { force: true });
};

/** Whether a question of a run was forgotten: it is asked no more, though it still stands in the data. Throws where forgetting is not finished. */
export const readForgotten = async (folder: string): Promise<(split: QuestionSplit, id: string) => boolean> => {
  const journal = await readForgettingJournal(folder);
  if (journal !== undefined)
    throw new UserError(
      `${folder}: forgetting a question was stopped before its end. Finish it first: retort forget ${folder} ${JSON.stringify(journal.id)}`,
    );
  const { questions } = (await readParsed(forgottenFile(folder), forgottenSchema)) ?? { questions: [] };
  const forgotten = new Set(questions.map(({ split, idHash }) => `${split} ${idHash}`));
  return (split, id) => forgotten.size > 0 && forgotten.has(`${split} ${sha256(id)}`);
};

const readParsed = async <Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema> | undefined> => {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return undefined;
    throw new UserError(`${path} is damaged or was edited by hand: ${messageOf(thrown)}`, { cause: thrown });
  }
};
