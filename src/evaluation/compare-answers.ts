import { UserError } from '../base/errors.ts';
import { compareScores, type PairCounts, type PairedDifference, pairCounts } from './compare-arms.ts';
import { crossedMean, proportionPseudo } from './crossed.ts';
import { type Interval, wilsonInterval } from './proportion.ts';
import type { AnswerFile, ComparableAnswer } from './read-answer-file.ts';

export interface CompareAnswersOptions {
  /** Compare the questions that all files have in common; otherwise files over different questions are an error. */
  readonly onlyCommon?: boolean;
}

/** The same statistics as a run's report, for answers from anywhere. */
export interface AnswerComparison {
  readonly questionCount: number;
  /** Questions that only some of the files have, by path: left out. */
  readonly leftOut: readonly { readonly path: string; readonly count: number }[];
  readonly joinedBy: 'question text' | 'id';
  readonly scores: Readonly<Record<'strict' | 'flexible', ComparedScore>>;
  readonly first: ComparedSide;
  readonly second: ComparedSide;
}

export interface ComparedScore {
  readonly first: { readonly mean: number; readonly interval: Interval };
  readonly second: { readonly mean: number; readonly interval: Interval };
  readonly difference: PairedDifference;
  /** For one file a side. */
  readonly pair?: PairCounts;
}

export interface ComparedSide {
  readonly paths: readonly string[];
  readonly answerCount: number;
  /** Of the answers of which it is known; absent where it is known of none. */
  readonly followsFormat?: { readonly count: number; readonly total: number };
  /** Strictly right ones among those that follow the format. */
  readonly rightInFormat?: { readonly count: number; readonly total: number };
  readonly cutOff?: { readonly count: number; readonly total: number };
  readonly meanTokenCount?: number;
}

/**
 * Compares two sets of answers to the same questions. Several files a side are seeds of one arm: they are paired in the order given, and
 * never counted as more questions.
 */
export const compareAnswers = (
  first: readonly AnswerFile[],
  second: readonly AnswerFile[],
  { onlyCommon = false }: CompareAnswersOptions = {},
): AnswerComparison => {
  const all = [...first, ...second];
  if (first.length === 0 || second.length === 0) throw new UserError('Two sets of answers are compared: give at least one file a side.');
  if (first.length !== second.length && first.length !== 1 && second.length !== 1) {
    throw new UserError(
      `${first.length} files were given on one side and ${second.length} on the other: give as many seeds on both, or one file on one of them.`,
    );
  }
  const hasTexts = all.every(({ answers }) => answers.every(({ questionHash }) => questionHash !== undefined));
  // Programs number questions in their own ways: between them only the text can tell. Within one, ids can, and the texts must agree.
  const isMixed = new Set(all.map(({ format }) => format === 'lm-evaluation-harness')).size > 1;
  const joinedBy = isMixed && hasTexts ? 'question text' : 'id';
  const keyOf = ({ id, questionHash = '' }: ComparableAnswer): string =>
    joinedBy === 'question text' ? questionHash : hasTexts ? `${id}\n${questionHash}` : id;
  const indexed = all.map(({ path, answers }) => ({ path, byKey: indexBy(answers, keyOf, path) }));
  const common = [...(indexed[0]?.byKey.keys() ?? [])].filter((key) => indexed.every(({ byKey }) => byKey.has(key)));
  const leftOut = indexed.map(({ path, byKey }) => ({ path, count: byKey.size - common.length })).filter(({ count }) => count > 0);
  checkCommon(common.length, leftOut, onlyCommon, joinedBy);
  const tables = indexed.map(({ byKey }) => common.flatMap((key) => byKey.get(key) ?? []));
  const [ours, theirs] = [tables.slice(0, first.length), tables.slice(first.length)];
  return {
    questionCount: common.length,
    leftOut,
    joinedBy,
    scores: { strict: compareScore('strict', ours, theirs), flexible: compareScore('flexible', ours, theirs) },
    first: describeSide(first, ours),
    second: describeSide(second, theirs),
  };
};

type Answers = readonly ComparableAnswer[];

const compareScore = (score: 'strict' | 'flexible', first: readonly Answers[], second: readonly Answers[]): ComparedScore => {
  const right = (answers: Answers) => answers.map((answer) => answer[score]);
  const table = (side: readonly Answers[]) => side.map((answers) => right(answers).map(Number));
  const [ours, theirs] = [first[0], second[0]];
  const isPair = first.length === 1 && second.length === 1 && ours !== undefined && theirs !== undefined;
  return {
    first: accuracyOf(table(first)),
    second: accuracyOf(table(second)),
    difference: compareScores(table(first), table(second)),
    ...(isPair ? { pair: pairCounts(right(ours), right(theirs)) } : {}),
  };
};

const accuracyOf = (table: readonly (readonly number[])[]): { mean: number; interval: Interval } => {
  const [only] = table;
  const { mean, interval } = crossedMean(table, { pseudo: proportionPseudo });
  if (table.length === 1 && only !== undefined) return { mean, interval: wilsonInterval(Math.round(mean * only.length), only.length) };
  return { mean, interval: { ...interval, low: Math.max(0, interval.low), high: Math.min(1, interval.high) } };
};

const describeSide = (files: readonly AnswerFile[], tables: readonly Answers[]): ComparedSide => {
  const answers = tables.flat();
  const share = (values: readonly (boolean | undefined)[]) => {
    const known = values.filter((value) => value !== undefined);
    return known.length === 0 ? undefined : { count: known.filter(Boolean).length, total: known.length };
  };
  const followsFormat = share(answers.map((answer) => answer.followsFormat));
  const rightInFormat = share(answers.map((answer) => (answer.followsFormat === true ? answer.strict : undefined)));
  const cutOff = share(answers.map((answer) => answer.isCutOff));
  const lengths = answers.flatMap(({ tokenCount }) => tokenCount ?? []);
  return {
    paths: files.map(({ path }) => path),
    answerCount: answers.length,
    ...(followsFormat === undefined ? {} : { followsFormat }),
    ...(rightInFormat === undefined ? {} : { rightInFormat }),
    ...(cutOff === undefined ? {} : { cutOff }),
    ...(lengths.length === 0 ? {} : { meanTokenCount: lengths.reduce((sum, length) => sum + length, 0) / lengths.length }),
  };
};

const indexBy = (answers: Answers, keyOf: (answer: ComparableAnswer) => string, path: string): Map<string, ComparableAnswer> => {
  const byKey = new Map<string, ComparableAnswer>();
  for (const answer of answers) {
    const key = keyOf(answer);
    const before = byKey.get(key);
    if (before !== undefined)
      throw new UserError(`${path}: the questions ${before.id} and ${answer.id} have the same text. Keep one of them.`);
    byKey.set(key, answer);
  }
  return byKey;
};

const checkCommon = (
  commonCount: number,
  leftOut: readonly { readonly path: string; readonly count: number }[],
  onlyCommon: boolean,
  joinedBy: AnswerComparison['joinedBy'],
): void => {
  const by = `by ${joinedBy}`;
  const list = leftOut.map(({ path, count }) => `${path} has ${count} that others lack`).join('; ');
  if (commonCount === 0) throw new UserError(`The files have no question in common (joined ${by}): they answer different ones.`);
  if (leftOut.length > 0 && !onlyCommon) {
    throw new UserError(
      `The files answer different questions (joined ${by}): ${commonCount} in common; ${list}. Compare the same questions, or the common ones alone (--only-common).`,
    );
  }
};
