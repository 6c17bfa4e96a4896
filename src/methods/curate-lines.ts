import { basename, join } from 'node:path';
import { z } from 'zod';
import { readJsonLines, refuseTornLine } from '../base/json-lines.ts';
import type { TrainConfig } from '../config/train-config.ts';
import { curate } from '../responses/curate.ts';
import type { EvaluationText, TrainingText } from '../responses/decontaminate.ts';
import { parseTrainingLine, readTrainingLines, type TrainingLine } from '../text/training-lines.ts';
import { recordCuration } from './curation-files.ts';
import type { Surroundings } from './surroundings.ts';

/** The lines to train on, without those that `config.curation` leaves out; what was found is in the output folder, and told. */
export const curatedLines = async (
  lines: readonly TrainingLine[],
  { data, curation: settings, output }: Pick<TrainConfig, 'data' | 'curation' | 'output'>,
  { say }: Pick<Surroundings, 'say'>,
): Promise<readonly TrainingLine[]> => {
  const development = data.development === undefined ? [] : (await readTrainingLines(data.development)).map(textsOf);
  const asked = data.evaluation === undefined ? [] : await readEvaluation(data.evaluation);
  const evaluation = [...development.map(({ id, question }) => ({ id, question })), ...asked];
  const rows = lines.map(textsOf);
  const curation = curate(rows, evaluation, settings);
  const { notes } = await recordCuration({ curation, settings, rows, what: 'training rows', folder: join(output, 'curation') });
  for (const note of notes) say?.(note);
  return lines.filter((_, index) => !curation.dropped.has(rows[index]?.id ?? ''));
};

/** What is asked and what is answered. A system message is the wording of all rows alike, and no question. */
const textsOf = (line: TrainingLine): TrainingText => {
  const id = line.where.replace(/^.*[\\/]/, '');
  if (line.kind === 'completion') return { id, question: line.prompt, answer: line.completion };
  const textOf = (wanted: string): string =>
    line.messages
      .filter(({ role }) => role === wanted)
      .map(({ content }) => content)
      .join('\n');
  return { id, question: textOf('user'), answer: textOf('assistant') };
};

const questionLine = z.looseObject({ question: z.string() });

const readEvaluation = async (file: string): Promise<EvaluationText[]> => {
  const questions: EvaluationText[] = [];
  for await (const { line, value } of readJsonLines(file, { onTorn: refuseTornLine(file) })) {
    const plain = questionLine.safeParse(value);
    const id = `${basename(file)}:${line}`;
    questions.push({ id, question: plain.success ? plain.data.question : textsOf(parseTrainingLine(value, `${file}:${line}`)).question });
  }
  return questions;
};
