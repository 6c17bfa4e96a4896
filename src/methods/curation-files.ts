import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { writeFileAtomic } from '../base/folders.ts';
import { type Curation, checkCuration, curationNotes } from '../responses/curate.ts';
import type { CurationSettings } from '../responses/curation-config.ts';
import type { TrainingText } from '../responses/decontaminate.ts';

export interface CurationRecord {
  readonly curation: Curation;
  readonly settings: CurationSettings;
  readonly rows: readonly TrainingText[];
  /** What the rows are, in the plural. */
  readonly what: string;
  readonly folder: string;
  /** `overlaps` in `question-overlaps.jsonl`. */
  readonly prefix?: string;
}

/**
 * Writes what was found, one JSON object a line with both texts, then refuses where the settings say so. Returns the files and a sentence for
 * each finding. A file of an earlier finding goes when there is none now.
 */
export const recordCuration = async ({ curation, settings, rows, what, folder, prefix = '' }: CurationRecord) => {
  const files = { overlaps: join(folder, `${prefix}overlaps.jsonl`), duplicates: join(folder, `${prefix}duplicates.jsonl`) };
  const textOf = new Map(rows.map(({ id, question, answer }) => [id, [question, answer].filter((text) => text !== '').join('\n\n')]));
  const duplicates = curation.duplicates.map((found) => ({
    ...found,
    text: textOf.get(found.id),
    originalText: textOf.get(found.duplicateOf),
  }));
  const written = [...(await writeLines(files.overlaps, curation.overlaps)), ...(await writeLines(files.duplicates, duplicates))];
  checkCuration(curation, settings, what, files);
  // From the folder's name on: it may move.
  const shown = {
    overlaps: join(basename(folder), basename(files.overlaps)),
    duplicates: join(basename(folder), basename(files.duplicates)),
  };
  return { files: written, notes: curationNotes(curation, settings, what, shown) };
};

/** Writes a file of what was found, for its owner alone, or removes an earlier one where nothing was. Returns the files there are. */
export const writeLines = async (file: string, values: readonly object[]): Promise<string[]> => {
  if (values.length === 0) {
    await rm(file, { force: true });
    return [];
  }
  await writeFileAtomic(file, values.map((value) => `${JSON.stringify(value)}\n`).join(''));
  return [file];
};
