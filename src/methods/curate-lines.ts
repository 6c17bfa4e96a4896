import { join } from 'node:path';
import { z } from 'zod';
import type { TrainConfig } from '../config/train-config.ts';
import type { DataAccess } from '../data/open-data.ts';
import { readRows } from '../data/read-rows.ts';
import { curate } from '../responses/curate.ts';
import type { EvaluationText, TrainingText } from '../responses/decontaminate.ts';
import { parseTrainingLine, type TrainingLine, trainingRowValue } from '../text/training-lines.ts';
import { recordCuration } from './curation-files.ts';
import type { Surroundings } from './surroundings.ts';
import { trainingLinesOf } from './training-data.ts';

/** The lines to train on, without those that `config.curation` leaves out; what was found is in the output folder, and told. */
export const curatedLines = async (
  lines: readonly TrainingLine[],
  config: Pick<TrainConfig, 'data' | 'curation' | 'output'>,
  surroundings: Pick<Surroundings, 'say'> & DataAccess,
): Promise<readonly TrainingLine[]> => {
  const { curation: settings, output } = config;
  const { say } = surroundings;
  const development = (await trainingLinesOf('development', config, surroundings)).map(textsOf);
  const asked = await readEvaluation(config.data, surroundings);
  const evaluation = [...development.map(({ id, question }) => ({ id, question })), ...asked];
  const rows = lines.map(textsOf);
  const curation = curate(rows, evaluation, settings);
  const { notes } = await recordCuration({ curation, settings, rows, what: 'training rows', folder: join(output, 'curation') });
  for (const note of notes) say?.(note);
  return lines.filter((_, index) => !curation.dropped.has(rows[index]?.id ?? ''));
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
