import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { parseSubjectName } from '../run-folder/arm.ts';
import { type ConfigDifference, configDifferences, describeDifferences } from '../run-folder/compare-configs.ts';
import type { Json } from '../run-folder/manifest.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { checkFiles, type FileProblem } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import { type AnswerRecord, readAnswerRecords } from './answer-record.ts';
import { scoresOf } from './evaluate.ts';
import { summariseRun } from './summarise-run.ts';

/** What a check of a run found. It is sound where all lists are empty. */
export interface RunCheck {
  readonly fileCount: number;
  readonly fileProblems: readonly FileProblem[];
  /** Answers scored again from their text; absent where the task's rules were not given. */
  readonly rescoredCount?: number;
  /** Answers whose stored scores are not those of their text. */
  readonly scoreProblems: readonly { readonly file: string; readonly id: string; readonly field: string }[];
  /** Numbers of the stored report that the stored answers do not give; absent where no report is stored. */
  readonly reportDifferences?: readonly ConfigDifference[];
}

/**
 * Checks a run against itself: every finished file against its recorded SHA-256, every stored score against the answer's text, and every
 * number of the stored report against one recomputed from the answers.
 */
export const checkRun = async (run: RunFolder, task?: Task): Promise<RunCheck> => {
  const manifest = await run.manifest();
  const fileProblems = await checkFiles(run);
  const scoreProblems: { file: string; id: string; field: string }[] = [];
  let rescoredCount = 0;
  const evaluated = Object.entries(manifest.stages).filter(([stage, { status }]) => stage.startsWith('evaluate--') && status === 'done');
  for (const [stage] of task === undefined ? [] : evaluated) {
    const subject = parseSubjectName(stage.slice('evaluate--'.length));
    if (subject === undefined || task === undefined || !existsSync(run.paths.answers(subject))) continue;
    for (const record of await readAnswerRecords(run.paths.answers(subject))) {
      rescoredCount++;
      const field = wrongField(record, task);
      if (field !== undefined) scoreProblems.push({ file: stage.slice('evaluate--'.length), id: record.id, field });
    }
  }
  const stored = await storedSummary(run);
  return {
    fileCount: Object.keys(manifest.files).length,
    fileProblems,
    ...(task === undefined ? {} : { rescoredCount }),
    scoreProblems,
    ...(stored === undefined ? {} : { reportDifferences: reportDifferences(stored, await recomputed(run)) }),
  };
};

/** Whether nothing was found. */
export const isSound = ({ fileProblems, scoreProblems, reportDifferences = [] }: RunCheck): boolean =>
  fileProblems.length === 0 && scoreProblems.length === 0 && reportDifferences.length === 0;

/** One paragraph that says what was checked and what was found. On the report's own page nothing is said of a stored report. */
export const describeCheck = (check: RunCheck, where: 'page' | 'elsewhere' = 'elsewhere'): string => {
  const { fileCount, fileProblems, rescoredCount, scoreProblems, reportDifferences } = check;
  const files =
    fileProblems.length === 0
      ? `All ${fileCount} finished files have their recorded SHA-256.`
      : `Of ${fileCount} finished files ${fileProblems.length} are not as they were recorded: ${list(fileProblems.map(({ file, problem }) => `${file} (${problem})`))}.`;
  const scores =
    rescoredCount === undefined
      ? 'Scores were taken as stored.'
      : scoreProblems.length === 0
        ? `All ${rescoredCount} answers were scored again from their text, with the stored scores.`
        : `Of ${rescoredCount} answers ${scoreProblems.length} have other scores than their text: ${list(scoreProblems.map(({ file, id, field }) => `${file} ${id} (${field})`))}.`;
  const report =
    reportDifferences === undefined
      ? 'No report was stored.'
      : reportDifferences.length === 0
        ? 'Every number of the stored report was recomputed from the answers and is the same.'
        : `The stored report differs from what the answers give:\n${describeDifferences(reportDifferences)}`;
  return [files, scores, ...(where === 'page' ? [] : [report])].join(' ');
};

const list = (items: readonly string[]): string =>
  items.slice(0, 5).join(', ') + (items.length > 5 ? `, and ${items.length - 5} more` : '');

/** Scoring reads the answer and the gold answer; the solution is not kept with the answers. */
const wrongField = (record: AnswerRecord, task: Task): string | undefined => {
  const { id, question, gold, text } = record;
  const scores = scoresOf(task, text, { id, question, solution: '', gold });
  return (['strictExtraction', 'flexibleExtraction', 'strict', 'flexible', 'followsFormat'] as const).find(
    (field) => record[field] !== scores[field],
  );
};

const recomputed = async (run: RunFolder): Promise<Json> => JSON.parse(JSON.stringify(await summariseRun(run)));

const storedSummary = async (run: RunFolder): Promise<Json | undefined> => {
  const path = join(run.paths.report, 'summary.json');
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    throw new UserError(`${path} is not JSON: it was edited or damaged. Write the report again: retort report ${run.path}`);
  }
};

/** Sessions, openings and unfinished stages go on after a report was written; numbers do not. */
const growing = new Set(['sessions', 'testOpenings', 'unfinished', 'warnings', 'headline']);

const reportDifferences = (stored: Json, now: Json): ConfigDifference[] =>
  configDifferences(stored, now).filter(({ path, before }) => !growing.has(path.replace(/[.[].*$/, '')) && !isNewKey(path, before));

/** A key that the stored report does not have: an older version wrote it, and says nothing of it that could be wrong. A list's items are no keys. */
const isNewKey = (path: string, before: Json | undefined): boolean => before === undefined && !path.endsWith(']');
