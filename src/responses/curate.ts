import { UserError } from '../base/errors.ts';
import type { CurationSettings } from './curation-config.ts';
import { type Contamination, checkNotTheSameSet, type EvaluationText, findContamination, type TrainingText } from './decontaminate.ts';
import { type Duplicate, findDuplicates } from './duplicates.ts';

/** What was found among training rows. */
export interface Curation {
  readonly rowCount: number;
  readonly overlaps: readonly Contamination[];
  readonly duplicates: readonly Duplicate[];
  /** Ids of the rows that the settings leave out. */
  readonly dropped: ReadonlySet<string>;
}

/**
 * Looks for rows that share words with an evaluation question, and for rows that say what an earlier one of their group says (`groupOf`; absent: all
 * rows are one group). What is dropped as an overlap is nobody's original.
 */
export const curate = <Row extends TrainingText>(
  rows: readonly Row[],
  evaluation: readonly EvaluationText[],
  { decontamination, duplicates }: CurationSettings,
  groupOf: (row: Row) => string = () => '',
): Curation => {
  const overlaps = decontamination.action === 'off' ? [] : findContamination(rows, evaluation, decontamination);
  const contaminated = new Set(decontamination.action === 'drop' ? overlaps.map(({ id }) => id) : []);
  const rest = duplicates.action === 'off' ? [] : rows.filter(({ id }) => !contaminated.has(id));
  const groups = [...Map.groupBy(rest, groupOf).values()].filter(({ length }) => length > 1);
  const found = groups.flatMap((group) =>
    findDuplicates(
      group.map(({ id, question, answer }) => ({ id, text: `${question}\n${answer}` })),
      { threshold: duplicates.similarity },
    ),
  );
  const repeated = duplicates.action === 'drop' ? found.map(({ id }) => id) : [];
  return { rowCount: rows.length, overlaps, duplicates: found, dropped: new Set([...contaminated, ...repeated]) };
};

/** Throws where the settings refuse what was found, and in any case where the rows are the evaluation questions. `file` lists them all. */
export const checkCuration = (
  { rowCount, overlaps, duplicates }: Curation,
  settings: CurationSettings,
  what: string,
  file: { readonly overlaps: string; readonly duplicates: string },
): void => {
  checkNotTheSameSet(overlaps, rowCount);
  const first = overlaps[0];
  if (settings.decontamination.action === 'refuse' && first !== undefined) {
    throw new UserError(
      `${overlaps.length} of ${rowCount} ${what} share ${settings.decontamination.wordCount} words in a row with an evaluation question, such as ${JSON.stringify(first.id)} and ${JSON.stringify(first.evaluationId)}: ${file.overlaps} lists them with both texts. ` +
        'Take them out of the data, or set curation.decontamination.action to drop.',
    );
  }
  const repeated = duplicates[0];
  if (settings.duplicates.action === 'refuse' && repeated !== undefined) {
    throw new UserError(
      `${duplicates.length} of ${rowCount} ${what} say what an earlier one says, such as ${JSON.stringify(repeated.id)} and ${JSON.stringify(repeated.duplicateOf)}: ${file.duplicates} lists them. ` +
        'Take them out of the data, or set curation.duplicates.action to drop.',
    );
  }
};

/** What was found, a sentence each, for the terminal and the report; empty where nothing was. */
export const curationNotes = (
  { rowCount, overlaps, duplicates }: Curation,
  settings: CurationSettings,
  what: string,
  file: { readonly overlaps: string; readonly duplicates: string },
): string[] => {
  const fate = (action: string): string => (action === 'drop' ? 'left out' : 'kept');
  const { decontamination } = settings;
  const same = duplicates.filter(({ similarity }) => similarity === 1).length;
  return [
    ...(overlaps.length === 0
      ? []
      : [
          `${overlaps.length} of ${rowCount} ${what} share ${decontamination.wordCount} words in a row with an evaluation question and are ${fate(decontamination.action)}: see ${file.overlaps}.`,
        ]),
    ...(duplicates.length === 0
      ? []
      : [
          `${duplicates.length} of ${rowCount} ${what} say what an earlier one says (${same} in the same words) and are ${fate(settings.duplicates.action)}: see ${file.duplicates}.`,
        ]),
  ];
};
