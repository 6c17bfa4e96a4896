import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { readJsonLines } from '../base/json-lines.ts';
import { checkRun, type RunCheck } from '../evaluation/check-run.ts';
import { type DifferingQuestions, differingQuestions } from '../evaluation/differing-questions.ts';
import { type Evaluation, loadEvaluations } from '../evaluation/load-evaluations.ts';
import { summariseRun } from '../evaluation/summarise-run.ts';
import type { RunSummary, SummaryGroup } from '../evaluation/summary.ts';
import { armName } from '../run-folder/arm.ts';
import type { RunManifest } from '../run-folder/manifest.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import type { Task } from '../tasks/task.ts';

/** All that the page of a run shows, gathered from its folder. */
export interface PageData {
  readonly summary: RunSummary;
  readonly check: RunCheck;
  readonly curves: readonly TrainingCurve[];
  readonly lengths: readonly AnswerLengths[];
  readonly questions: DifferingQuestions;
  readonly configText: string;
  readonly stages: readonly { readonly name: string; readonly status: string; readonly durationMs: number | undefined }[];
  readonly files: RunManifest['files'];
}

/** Losses of one student over its optimiser steps, nats per token. */
export interface TrainingCurve {
  readonly name: string;
  readonly label: string;
  readonly training: readonly LossPoint[];
  readonly development: readonly LossPoint[];
}

export interface LossPoint {
  readonly step: number;
  readonly loss: number;
}

/** Quantiles of the answers' lengths, in tokens: 5, 25, 50, 75 and 95 %. */
export interface AnswerLengths {
  readonly label: string;
  readonly low: number;
  readonly lower: number;
  readonly median: number;
  readonly upper: number;
  readonly high: number;
}

export interface PageDataOptions {
  /** The task's rules, to score every answer again. */
  readonly task?: Task;
  /** At most so many questions stand on the page; 150 when absent. */
  readonly questionLimit?: number;
}

/** Reads a run for its page and checks it on the way. */
export const readPageData = async (run: RunFolder, { task, questionLimit = 150 }: PageDataOptions = {}): Promise<PageData> => {
  const manifest = await run.manifest();
  const summary = await summariseRun(run);
  const { evaluations } = await loadEvaluations(run, manifest);
  return {
    summary,
    check: withoutReport(await checkRun(run, task)),
    curves: await readCurves(run, evaluations, summary.groups),
    lengths: summary.groups.flatMap((group) => lengthsOf(group, evaluations)),
    questions: differingQuestions(evaluations, summary.groups, questionLimit, summary.protocol.compared),
    configText: existsSync(run.paths.config) ? await readFile(run.paths.config, 'utf8') : '',
    stages: Object.entries(manifest.stages).map(([name, { status, durationMs }]) => ({ name, status, durationMs })),
    files: manifest.files,
  };
};

/** An older report is about to be replaced: what it says does not matter here. */
const withoutReport = ({ reportDifferences: _, ...check }: RunCheck): RunCheck => ({
  ...check,
  fileProblems: check.fileProblems.filter(({ file }) => !file.startsWith('report/')),
});

const metricSchema = z.looseObject({ step: z.number(), loss: z.number().optional(), developmentLoss: z.number().optional() });

/** More points than this a curve cannot show; neighbours are averaged. */
const pointLimit = 100;

const readCurves = async (
  run: RunFolder,
  evaluations: readonly Evaluation[],
  groups: readonly SummaryGroup[],
): Promise<TrainingCurve[]> => {
  const curves: TrainingCurve[] = [];
  for (const { name, subject } of evaluations) {
    if (subject.kind !== 'arm') continue;
    const path = run.paths.student(subject.arm).metrics;
    if (!existsSync(path)) continue;
    const training: LossPoint[] = [];
    const development: LossPoint[] = [];
    for await (const { value } of readJsonLines(path)) {
      const metric = metricSchema.safeParse(value);
      if (!metric.success) continue;
      const { step, loss, developmentLoss } = metric.data;
      if (loss !== undefined) training.push({ step, loss });
      if (developmentLoss !== undefined) development.push({ step, loss: developmentLoss });
    }
    const label = groups.find(({ rowNames }) => rowNames.includes(name))?.label ?? armName(subject.arm);
    curves.push({ name, label, training: thinned(training), development: thinned(development) });
  }
  return curves;
};

/** Means of neighbours, so that a curve has at most `pointLimit` points. */
const thinned = (points: readonly LossPoint[]): LossPoint[] => {
  const size = Math.ceil(points.length / pointLimit);
  if (size <= 1) return [...points];
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const part = points.slice(index * size, (index + 1) * size);
    const meanOf = (of: (point: LossPoint) => number) => part.reduce((sum, point) => sum + of(point), 0) / part.length;
    return { step: meanOf(({ step }) => step), loss: meanOf(({ loss }) => loss) };
  });
};

const lengthsOf = ({ label, rowNames }: SummaryGroup, evaluations: readonly Evaluation[]): AnswerLengths[] => {
  const lengths = evaluations
    .filter(({ name }) => rowNames.includes(name))
    .flatMap(({ answers }) => answers.flatMap(({ tokenCount }) => tokenCount ?? []))
    .sort((a, b) => a - b);
  if (lengths.length === 0) return [];
  const at = (share: number): number => lengths[Math.round(share * (lengths.length - 1))] ?? 0;
  return [{ label, low: at(0.05), lower: at(0.25), median: at(0.5), upper: at(0.75), high: at(0.95) }];
};
