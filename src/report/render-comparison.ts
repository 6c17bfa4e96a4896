import type { AnswerComparison, ComparedSide } from '../evaluation/compare-answers.ts';
import { detectableText, differenceRange, differenceText, measureUnits, percent, pValueText } from '../evaluation/number-text.ts';
import type { Interval } from '../evaluation/proportion.ts';
import { tableLines } from './render-text.ts';

/** A comparison of answer files for the terminal; the first line is the answer, for the score asked for. */
export const renderComparison = (comparison: AnswerComparison, score: 'strict' | 'flexible' = 'strict', width = 120): string => {
  const { questionCount, leftOut, joinedBy, scores, first, second } = comparison;
  const files = (side: ComparedSide) => side.paths.join(', ');
  const rows = (['strict', 'flexible'] as const).map((name) => {
    const { first: ours, second: theirs, difference, pair } = scores[name];
    return [
      name,
      meanText(ours),
      meanText(theirs),
      `${differenceText(difference.difference, name)} (${differenceRange(difference.interval, name)})`,
      pair === undefined ? '–' : `${pair.onlyFirstCount}:${pair.onlySecondCount}`,
      pValueText(difference.pValue),
      detectableText(difference.detectable, name),
    ];
  });
  const columns = ['score', 'A %', 'B %', 'A − B, points', 'only A : only B', 'p', 'detectable'].map((name, index) => ({
    name,
    align: index === 0 ? ('left' as const) : ('right' as const),
  }));
  return [
    comparisonSentence(comparison, score),
    '',
    `A  ${files(first)}${sideText(first)}`,
    `B  ${files(second)}${sideText(second)}`,
    `${questionCount} questions, joined by ${joinedBy}${leftOut.map(({ path, count }) => `; ${count} only in ${path} left out`).join('')}; p: ${scores[score].difference.test}.`,
    '',
    ...tableLines({ columns, rows }, width),
    '',
  ].join('\n');
};

/** One sentence; a null result reads as one. */
const comparisonSentence = ({ scores, questionCount }: AnswerComparison, score: 'strict' | 'flexible'): string => {
  const { difference } = scores[score];
  const { noun } = measureUnits[score];
  const size = `${differenceText(difference.difference, score)} points (95 % interval ${differenceRange(difference.interval, score)})`;
  const seeds = difference.seedCount === 1 ? '' : ` and ${difference.seedCount} seeds`;
  const condition = difference.generality === 'questions' && difference.seedCount > 1 ? ' Conditional on these seeds.' : '';
  if (difference.pValue <= 0.05) {
    return `A and B differ in ${noun}: A − B is ${size}, p ${pValueText(difference.pValue)}, over ${questionCount} questions${seeds}.${condition}`;
  }
  const detectable = detectableText(difference.detectable, score);
  return `No difference was found between A and B in ${noun}: A − B is ${size}; ${questionCount} questions${seeds} would find ${detectable === 'none' ? 'no difference' : `one of ${detectable} points`} four times in five.${condition}`;
};

const meanText = ({ mean, interval }: { readonly mean: number; readonly interval: Interval }): string =>
  `${percent(mean)} (${percent(interval.low)} to ${percent(interval.high)})`;

const sideText = ({ followsFormat, rightInFormat, cutOff, meanTokenCount }: ComparedSide): string => {
  const parts = [
    ...(followsFormat === undefined ? [] : [`in format ${percent(followsFormat.count / followsFormat.total)} %`]),
    ...(rightInFormat === undefined ? [] : [`right of those ${percent(rightInFormat.count / rightInFormat.total)} %`]),
    ...(cutOff === undefined ? [] : [`cut off ${percent(cutOff.count / cutOff.total)} %`]),
    ...(meanTokenCount === undefined ? [] : [`${meanTokenCount.toFixed(0)} tokens an answer`]),
  ];
  return parts.length === 0 ? '' : `: ${parts.join(', ')}`;
};
