import { randomFrom } from '../base/random.ts';
import { groupName } from '../run-folder/arm.ts';
import type { Protocol } from '../run-folder/manifest.ts';
import { compareLikelihoods, pairCounts } from './compare-arms.ts';
import { crossedMean, proportionPseudo, variance } from './crossed.ts';
import type { Evaluation } from './load-evaluations.ts';
import { neverStops } from './never-stops.ts';
import { wilsonInterval } from './proportion.ts';
import type { AnswerForm, GroupMean, LikelihoodSums, ScorePair, Share, SummaryGroup, SummaryRow } from './summary.ts';

export type Score = 'strict' | 'flexible';

/** Evaluations that differ in their seed alone, by ascending seed. */
export interface EvaluationGroup {
  readonly key: string;
  readonly evaluations: readonly Evaluation[];
}

export const groupEvaluations = (evaluations: readonly Evaluation[]): EvaluationGroup[] => {
  const groups = new Map<string, Evaluation[]>();
  for (const evaluation of evaluations) {
    const { subject, name } = evaluation;
    const key = subject.kind === 'arm' ? groupName(subject.arm) : name;
    groups.set(key, [...(groups.get(key) ?? []), evaluation]);
  }
  const seedOf = ({ subject }: Evaluation) => (subject.kind === 'arm' ? subject.arm.seed : 0);
  return [...groups].map(([key, members]) => ({ key, evaluations: members.sort((a, b) => seedOf(a) - seedOf(b)) }));
};

/** The answers of one subject, counted. */
export const summariseRow = (evaluation: Evaluation, baseline: Evaluation | undefined, untouched: Evaluation | undefined): SummaryRow => {
  const { name, subject, training } = evaluation;
  const likelihood = likelihoodSums(evaluation);
  const against = (other: Evaluation | undefined): ScorePair | undefined =>
    other === undefined || other === evaluation
      ? undefined
      : {
          strict: pairCounts(rightAnswers(evaluation, 'strict'), rightAnswers(other, 'strict')),
          flexible: pairCounts(rightAnswers(evaluation, 'flexible'), rightAnswers(other, 'flexible')),
        };
  const versusBaseline = against(baseline);
  const versusUntouched = against(untouched);
  return {
    name,
    subject,
    strict: shareOf(rightAnswers(evaluation, 'strict')),
    flexible: shareOf(rightAnswers(evaluation, 'flexible')),
    format: formOf([evaluation]),
    ...(likelihood === undefined ? {} : { likelihood }),
    ...(training === undefined ? {} : { training }),
    ...(versusBaseline === undefined ? {} : { versusBaseline }),
    ...(versusUntouched === undefined ? {} : { versusUntouched }),
  };
};

/** The same over seeds. */
export const summariseGroup = (group: EvaluationGroup, label: string, protocol: Protocol): SummaryGroup => {
  const { evaluations } = group;
  const subject = evaluations[0]?.subject ?? { kind: 'teacher' as const };
  const trained = evaluations.flatMap(({ training }) => training?.trainedTokenCount ?? []);
  const likelihood = likelihoodMean(evaluations);
  const identity =
    subject.kind === 'arm'
      ? { source: subject.arm.source, method: subject.arm.method, student: subject.arm.student }
      : {
          ...(subject.kind === 'untouched' ? { student: subject.student } : {}),
          ...(subject.variant === undefined ? {} : { variant: subject.variant }),
        };
  return {
    kind: subject.kind,
    label,
    ...identity,
    isBaseline: subject.kind === 'arm' && subject.arm.source === protocol.baseline,
    rowNames: evaluations.map(({ name }) => name),
    strict: accuracyMean(evaluations, 'strict'),
    flexible: accuracyMean(evaluations, 'flexible'),
    ...(likelihood === undefined ? {} : { likelihood }),
    format: formOf(evaluations),
    ...(trained.length === 0 ? {} : { trainedTokenCount: trained.reduce((sum, value) => sum + value, 0) }),
  };
};

export const rightAnswers = ({ answers }: Evaluation, score: Score): boolean[] => answers.map((answer) => answer[score]);

/** [seeds][questions], 1 where right. */
export const scoreTable = (evaluations: readonly Evaluation[], score: Score): number[][] =>
  evaluations.map((evaluation) => rightAnswers(evaluation, score).map(Number));

/** [seeds][questions] of log-likelihoods with the tokens of each question; undefined where one is missing or tokens differ between seeds. */
export const likelihoodTable = (evaluations: readonly Evaluation[]): { table: number[][]; tokenCounts: number[] } | undefined => {
  const lists = evaluations.map(({ likelihoods }) => likelihoods);
  const tokenCounts = lists[0]?.map(({ tokenCount }) => tokenCount);
  if (tokenCounts === undefined || tokenCounts.length === 0) return undefined;
  const isSame = lists.every(
    (list) => list?.length === tokenCounts.length && list.every((row, index) => row.tokenCount === tokenCounts[index]),
  );
  return isSame ? { table: lists.map((list) => (list ?? []).map(({ logLikelihood }) => logLikelihood)), tokenCounts } : undefined;
};

const shareOf = (right: readonly boolean[]): Share => {
  const count = right.filter(Boolean).length;
  return { count, total: right.length, interval: wilsonInterval(count, right.length) };
};

const formOf = (evaluations: readonly Evaluation[]): AnswerForm => {
  const answers = evaluations.flatMap((evaluation) => evaluation.answers);
  const inFormat = answers.filter(({ followsFormat }) => followsFormat);
  const lengths = answers.flatMap(({ tokenCount }) => tokenCount ?? []);
  return {
    answerCount: answers.length,
    followsFormatCount: inFormat.length,
    rightInFormatCount: inFormat.filter(({ strict }) => strict).length,
    cutOffCount: answers.filter(({ finishReason }) => finishReason === 'length').length,
    neverStopsCount: answers.filter(neverStops).length,
    knownEndCount: answers.filter(({ finishReason }) => finishReason !== 'other').length,
    tokenCount: lengths.reduce((sum, length) => sum + length, 0),
    knownLengthCount: lengths.length,
  };
};

const likelihoodSums = ({ likelihoods }: Evaluation): LikelihoodSums | undefined => {
  if (likelihoods === undefined || likelihoods.length === 0) return undefined;
  return {
    logLikelihood: likelihoods.reduce((sum, row) => sum + row.logLikelihood, 0),
    tokenCount: likelihoods.reduce((sum, row) => sum + row.tokenCount, 0),
    truncatedCount: likelihoods.filter(({ isTruncated }) => isTruncated).length,
  };
};

const accuracyMean = (evaluations: readonly Evaluation[], score: Score): GroupMean => {
  const table = scoreTable(evaluations, score);
  const estimate = crossedMean(table, { pseudo: proportionPseudo });
  const { mean, generality, seedCount, seedDeviation, interval } = estimate;
  const [first] = evaluations;
  // One student: the same interval as in its own row.
  const shown = first !== undefined && seedCount === 1 ? shareOf(rightAnswers(first, score)).interval : interval;
  return {
    mean,
    interval: { ...shown, low: Math.max(0, shown.low), high: Math.min(1, shown.high) },
    generality,
    seedCount,
    seedDeviation,
  };
};

const likelihoodMean = (evaluations: readonly Evaluation[]): GroupMean | undefined => {
  const found = likelihoodTable(evaluations);
  if (found === undefined) return undefined;
  const { table, tokenCounts } = found;
  const zeros = tokenCounts.map(() => 0);
  const estimate = compareLikelihoods(table, [zeros], tokenCounts, randomFrom(0, 'likelihood', evaluations[0]?.name ?? ''));
  const total = tokenCounts.reduce((sum, count) => sum + count, 0);
  const seedMeans = table.map((row) => row.reduce((sum, value) => sum + value, 0) / total);
  return {
    mean: estimate.difference,
    interval: estimate.interval,
    generality: estimate.generality,
    seedCount: estimate.seedCount,
    seedDeviation: Math.sqrt(variance(seedMeans)),
  };
};
