import { existsSync } from 'node:fs';
import { z } from 'zod';
import { sha256 } from '../base/folders.ts';
import { parseSubjectName, type Subject, subjectName } from '../run-folder/arm.ts';
import type { RunManifest } from '../run-folder/manifest.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { stageNames } from '../run-folder/stage.ts';
import { type AnswerRecord, type LikelihoodRecord, readAnswerRecords, readLikelihoodRecords } from './answer-record.ts';
import type { TrainingSums } from './summary.ts';

/** One subject's finished evaluation, on the questions that all subjects have in common and in their order. */
export interface Evaluation {
  readonly name: string;
  readonly subject: Subject;
  readonly answers: readonly AnswerRecord[];
  readonly likelihoods: readonly LikelihoodRecord[] | undefined;
  readonly training: TrainingSums | undefined;
}

export interface LoadedEvaluations {
  readonly evaluations: readonly Evaluation[];
  readonly questionCount: number;
  readonly questionsHash: string;
  readonly warnings: readonly string[];
}

/** Reads every evaluation that is done. Where subjects answered different questions, only the common ones are kept, and a warning says so. */
export const loadEvaluations = async (run: RunFolder, manifest: RunManifest): Promise<LoadedEvaluations> => {
  const warnings: string[] = [];
  const found: Evaluation[] = [];
  for (const [stage, { status, files }] of Object.entries(manifest.stages)) {
    const subject = stage.startsWith('evaluate--') ? parseSubjectName(stage.slice('evaluate--'.length)) : undefined;
    // A row that was left out is done without a file; a warning of its stage says why.
    if (subject === undefined || status !== 'done' || files.length === 0) continue;
    const path = run.paths.answers(subject);
    if (!existsSync(path)) {
      warnings.push(`The answers of ${subjectName(subject)} are recorded as done, but ${path} is gone: it is left out.`);
      continue;
    }
    const hasLikelihoods = manifest.stages[stageNames.likelihood(subject)]?.status === 'done' && existsSync(run.paths.likelihoods(subject));
    found.push({
      name: subjectName(subject),
      subject,
      answers: await readAnswerRecords(path),
      likelihoods: hasLikelihoods ? await readLikelihoodRecords(run.paths.likelihoods(subject)) : undefined,
      training: subject.kind === 'arm' ? trainingOf(manifest, stageNames.train(subject.arm)) : undefined,
    });
  }
  return { ...onCommonQuestions(found, warnings), warnings };
};

/** A question is the same where its id and its text are. */
const keyOf = ({ id, questionHash }: { readonly id: string; readonly questionHash: string }): string => `${id}\n${questionHash}`;

const onCommonQuestions = (found: readonly Evaluation[], warnings: string[]): Omit<LoadedEvaluations, 'warnings'> => {
  const first = found[0];
  if (first === undefined) return { evaluations: [], questionCount: 0, questionsHash: sha256('') };
  const sets = found.flatMap(({ answers, likelihoods }) =>
    [answers, likelihoods ?? []].filter((rows) => rows.length > 0).map((rows) => new Set(rows.map(keyOf))),
  );
  const common = first.answers.map(keyOf).filter((key) => sets.every((set) => set.has(key)));
  const largest = Math.max(...sets.map((set) => set.size));
  if (common.length < largest) {
    warnings.push(
      `Not every row answered the same questions: of up to ${largest}, the ${common.length} that all have in common are compared, and all numbers are over these.`,
    );
  }
  const ordered = <Row extends { readonly id: string; readonly questionHash: string }>(rows: readonly Row[]): Row[] => {
    const byKey = new Map(rows.map((row) => [keyOf(row), row]));
    return common.flatMap((key) => byKey.get(key) ?? []);
  };
  const evaluations = found.map((evaluation) => ({
    ...evaluation,
    answers: ordered(evaluation.answers),
    likelihoods: evaluation.likelihoods === undefined ? undefined : ordered(evaluation.likelihoods),
  }));
  return { evaluations, questionCount: common.length, questionsHash: sha256(common.toSorted().join('\n\n')) };
};

const count = z.int().nonnegative().optional().catch(undefined);
const trainingSchema = z.object({ rowCount: count, droppedCount: count, trainedTokenCount: count, stepCount: count, keptStep: count });

const trainingOf = (manifest: RunManifest, stage: string): TrainingSums | undefined => {
  const record = manifest.stages[stage];
  if (record?.status !== 'done') return undefined;
  const facts = trainingSchema.parse(record.facts);
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
};
