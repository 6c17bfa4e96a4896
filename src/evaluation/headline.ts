import { detectableText, differenceRange, differenceText, measureUnits, pValueText } from './number-text.ts';
import type { RunSummary, SummaryComparison } from './summary.ts';

/** The family's level: a planned difference counts as found when its corrected p-value is not above it. */
export const familyLevel = 0.05;

/**
 * The answer in one sentence with its uncertainty. It says what was found among the planned comparisons in the declared measure, or that
 * nothing was and what could have been; it never picks the measure or the arm that looks best.
 */
export const headlineOf = (summary: Omit<RunSummary, 'headline'>): string => {
  const { protocol, comparisons, questionCount, unfinished } = summary;
  if (questionCount === 0) return 'Nothing has been measured yet.';
  const planned = comparisons.filter(({ isPlanned }) => isPlanned);
  const prefix = unfinished.length > 0 ? 'So far (the run is not finished): ' : '';
  const { departures = [] } = protocol;
  const suffix = departures.length === 0 ? '' : ` The protocol is not sound: ${departures.join(', ')}.`;
  if (planned.length === 0) return `${prefix}${nothingPlanned(summary)}${suffix}`;
  const found = planned.filter(({ adjustedPValue = 1 }) => adjustedPValue <= familyLevel);
  const { noun } = measureUnits[protocol.primaryMeasure];
  const sentence = found.length > 0 ? findings(found, planned, protocol.baseline, noun) : nullResult(planned, protocol.baseline, noun);
  return `${prefix}${sentence}${suffix}`;
};

const nothingPlanned = ({ groups, protocol }: Omit<RunSummary, 'headline'>): string => {
  if (!groups.some(({ isBaseline }) => isBaseline))
    return `Nothing was compared: there is no student of the baseline arm “${protocol.baseline}”.`;
  return 'No comparison was planned in the config, so every difference below is exploratory.';
};

const findings = (found: readonly SummaryComparison[], planned: readonly SummaryComparison[], baseline: string, noun: string): string => {
  const list = found.map((comparison) => {
    const { first, difference, interval, measure, adjustedPValue = 1 } = comparison;
    const { unit } = measureUnits[measure];
    return `“${first}” ${differenceText(difference, measure)} ${unit} (95 % interval ${differenceRange(interval, measure)}, p ${equals(pValueText(adjustedPValue))})`;
  });
  const share =
    planned.length === 1
      ? 'the planned arm differs'
      : `${found.length} of ${planned.length} planned arms ${found.length === 1 ? 'differs' : 'differ'}`;
  const correction = planned.length === 1 ? '' : `, p-values corrected for ${planned.length} comparisons`;
  return `Compared with “${baseline}”, ${share} in ${noun}: ${list.join('; ')}; ${amount(found)}${correction}.${condition(found)}`;
};

const nullResult = (planned: readonly SummaryComparison[], baseline: string, noun: string): string => {
  const [largest] = [...planned].sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
  if (largest === undefined) return '';
  const { first, difference, interval, measure } = largest;
  const { unit } = measureUnits[measure];
  // what the family as a whole could see is set by its least sensitive member
  const detectable = Math.max(...planned.map((comparison) => comparison.detectable));
  const who = planned.length === 1 ? `“${first}” and “${baseline}”` : `“${baseline}” and any of the ${planned.length} planned arms`;
  const which = planned.length === 1 ? 'the difference is' : `the largest is “${first}”,`;
  return (
    `No difference was found between ${who} in ${noun}: ${which} ${differenceText(difference, measure)} ${unit} ` +
    `(95 % interval ${differenceRange(interval, measure)}); ${amount(planned)} would find ` +
    `${detectableText(detectable, measure) === 'none' ? 'no difference' : `a true difference of ${detectableText(detectable, measure)} ${unit}`} ` +
    `four times in five.${condition(planned)}`
  );
};

const amount = (comparisons: readonly SummaryComparison[]): string => {
  const seedCounts = [...new Set(comparisons.map(({ seedCount }) => seedCount))].sort((a, b) => a - b);
  const seeds = seedCounts.length === 1 && seedCounts[0] === 1 ? 'one seed' : `${seedCounts.join(' to ')} seeds`;
  return `${comparisons[0]?.questionCount ?? 0} questions and ${seeds}`;
};

/** Too few seeds to speak of others. */
const condition = (comparisons: readonly SummaryComparison[]): string => {
  const conditional = comparisons.filter(({ generality }) => generality === 'questions');
  if (conditional.length === 0) return '';
  const seeds = conditional.every(({ seedCount }) => seedCount === 1) ? 'this one seed' : 'these seeds';
  return ` This is conditional on ${seeds}: other seeds may give other differences.`;
};

const equals = (text: string): string => (text.startsWith('<') ? `< ${text.slice(1)}` : `= ${text}`);
