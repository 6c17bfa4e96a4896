import { join } from 'node:path';
import { z } from 'zod';
import type { TrainConfig } from '../config/train-config.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readRows } from '../data/read-rows.ts';
import { curate } from '../responses/curate.ts';
import type { EvaluationText, TrainingText } from '../responses/decontaminate.ts';
import { parseTrainingLine, type TrainingLine, trainingRowValue } from '../text/training-lines.ts';
import { type CurationRecord, recordCuration } from './curation-files.ts';
import type { Surroundings } from './surroundings.ts';

/** The lines of a training, and those of its development data. */
export interface DataLines {
  readonly train: readonly TrainingLine[];
  readonly development: readonly TrainingLine[];
}

/** The lines to train on, without those that `config.curation` leaves out; what was found is in the output folder, and told. */
export const curatedLines = async (
  lines: DataLines,
  config: Pick<TrainConfig, 'data' | 'curation' | 'output'>,
  surroundings: Pick<Surroundings, 'say'> & DataAccess,
): Promise<readonly TrainingLine[]> => {
  const { kept, ...found } = await curationOf(lines, config, surroundings);
  const record = { ...found, settings: config.curation, what: 'training rows', folder: join(config.output, 'curation') };
  const { notes } = await recordCuration(record);
  for (const note of notes) surroundings.say?.(note);
  return kept;
};

/** What `curatedLines` finds, without writing it down or refusing. */
export const curationOf = async (
  { train, development }: DataLines,
  { data, curation: settings }: Pick<TrainConfig, 'data' | 'curation'>,
  access: DataAccess,
): Promise<Pick<CurationRecord, 'curation' | 'rows'> & { readonly kept: readonly TrainingLine[] }> => {
  const asked = await readEvaluation(data, access);
  const evaluation = [...development.map(textsOf).map(({ id, question }) => ({ id, question })), ...asked];
  const rows = train.map(textsOf);
  const curation = curate(rows, evaluation, settings);
  return { curation, rows, kept: train.filter((_, index) => !curation.dropped.has(rows[index]?.id ?? '')) };
};

/** File and line, without the folder. */
const idOf = (where: string): string => where.replace(/^.*[\\/]/, '');

/** What is asked and what is answered. A system message is the wording of all rows alike, and no question. */
const textsOf = (line: TrainingLine): TrainingText => {
  const id = idOf(line.where);
  if (line.kind === 'completion') return { id, question: line.prompt, answer: line.completion };
  const textOf = (wanted: string): string =>
    line.messages
      .filter(({ role }) => role === wanted)
      .map(({ content }) => content)
      .join('\n');
  return { id, question: textOf('user'), answer: textOf('assistant') };
};

const questionLine = z.looseObject({ question: z.string() });

const readEvaluation = async ({ evaluation, splits, fields }: TrainConfig['data'], access: DataAccess): Promise<EvaluationText[]> => {
  const questions: EvaluationText[] = [];
  if (evaluation === undefined) return questions;
  for await (const { where, value } of readRows(evaluation, { split: splits.evaluation, what: 'comparing with the evaluation', access })) {
    const plain = questionLine.safeParse(value);
    const { question } = plain.success ? plain.data : textsOf(parseTrainingLine(trainingRowValue(value, fields), where));
    questions.push({ id: idOf(where), question });
  }
  return questions;
};
