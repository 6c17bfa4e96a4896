import { join } from 'node:path';
import type { AnswerRecord, LikelihoodRecord } from '../evaluation/answer-record.ts';
import { type AnswerSampling, engineAnswerer } from '../evaluation/answerer.ts';
import { evaluate, evaluateLikelihood } from '../evaluation/evaluate.ts';
import { neverStops } from '../evaluation/never-stops.ts';
import { type Interval, wilsonInterval } from '../evaluation/proportion.ts';
import type { ScoredAnswer } from '../evaluation/score-answers.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { LocalModel } from './local-model.ts';
import type { StageProgress } from './surroundings.ts';

export interface EvaluateModelOptions {
  readonly model: LocalModel;
  readonly task: Task;
  readonly examples: readonly Example[];
  /** Answers and likelihoods are kept here; started again, it continues. */
  readonly folder: string;
  readonly sampling: AnswerSampling;
  /** Whether the log-likelihood of the examples' own solutions is taken too. */
  readonly likelihood: boolean;
  readonly batchSize?: number;
  readonly onProgress?: (name: string, progress: StageProgress) => void;
  readonly signal?: AbortSignal;
}

export interface ModelEvaluation {
  readonly answers: readonly AnswerRecord[];
  readonly likelihoods: readonly LikelihoodRecord[] | undefined;
}

/** Measures one model on a task's questions, outside any run: the same prompts, scores and files as in one. */
export const evaluateModel = async (options: EvaluateModelOptions): Promise<ModelEvaluation> => {
  const { model, task, examples, folder, sampling, likelihood, batchSize, onProgress, signal } = options;
  const { engine, hash } = model;
  const { tokenizer, template, endTokens } = model.text;
  const shared = { task, examples, ...(signal !== undefined && { signal }) };
  const answerer = engineAnswerer({
    ...{ engine, tokenizer, template, modelHash: hash, endTokens, sampling },
    ...(batchSize !== undefined && { batchSize }),
  });
  const answers = await evaluate({
    ...shared,
    answerer,
    file: join(folder, 'answers.jsonl'),
    onProgress: (progress) => onProgress?.('evaluate', progress),
  });
  if (!likelihood) return { answers, likelihoods: undefined };
  const likelihoods = await evaluateLikelihood({
    ...shared,
    ...{ engine, tokenizer, template, modelHash: hash },
    file: join(folder, 'likelihoods.jsonl'),
    onProgress: (progress) => onProgress?.('likelihood', progress),
  });
  return { answers, likelihoods };
};

/** A count of answers and the range that its share is known to, 95 %. */
export interface ScoreShare {
  readonly count: number;
  readonly interval: Interval;
}

/** What one model's answers come to. */
export interface AnswerSummary {
  readonly answerCount: number;
  readonly strict: ScoreShare;
  readonly flexible: ScoreShare;
  readonly followsFormatCount: number;
  /** Of those, the strictly right ones. */
  readonly rightInFormatCount: number;
  /** Cut off by the token limit; undefined where it is not known of every answer. */
  readonly truncatedCount: number | undefined;
  /** Of those, the ones that would not have stopped: `neverStops`. */
  readonly neverStopsCount: number | undefined;
  /** Mean tokens of an answer; undefined where they are not known of every answer. */
  readonly meanTokenCount: number | undefined;
}

/** Sums up answers, of a model here or from elsewhere. */
export const summariseAnswers = (answers: readonly (AnswerRecord | ScoredAnswer)[]): AnswerSummary => {
  const answerCount = answers.length;
  const count = (holds: (answer: AnswerRecord | ScoredAnswer) => boolean): number => answers.filter(holds).length;
  const share = (successCount: number): ScoreShare => ({ count: successCount, interval: wilsonInterval(successCount, answerCount) });
  const areEndsKnown = answers.every(({ finishReason }) => finishReason !== undefined);
  const tokenCounts = answers.flatMap(({ tokenCount }) => tokenCount ?? []);
  return {
    answerCount,
    strict: share(count(({ strict }) => strict)),
    flexible: share(count(({ flexible }) => flexible)),
    followsFormatCount: count(({ followsFormat }) => followsFormat),
    rightInFormatCount: count(({ followsFormat, strict }) => followsFormat && strict),
    truncatedCount: areEndsKnown ? count(({ finishReason }) => finishReason === 'length') : undefined,
    neverStopsCount: areEndsKnown ? count(neverStops) : undefined,
    meanTokenCount:
      tokenCounts.length === answerCount && answerCount > 0
        ? tokenCounts.reduce((sum, tokens) => sum + tokens, 0) / answerCount
        : undefined,
  };
};

/** Log-likelihood per token over all solutions: sums first, divided once. */
export const meanLogLikelihood = (records: readonly LikelihoodRecord[]): number =>
  records.reduce((sum, { logLikelihood }) => sum + logLikelihood, 0) / records.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
