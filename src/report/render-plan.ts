import { percent } from '../evaluation/number-text.ts';
import type { StudyPlan } from '../evaluation/plan.ts';
import { tableLines, wrap } from './render-text.ts';

/** What a run will be able to find, in one sentence: said before it begins. */
export const planSentence = ({ questionCount, seedCount, comparedCount, power, rows }: StudyPlan): string => {
  const middle = rows.find(({ discordance }) => discordance === 0.2);
  const seeds = seedCount === 1 ? 'one seed' : `${seedCount} seeds`;
  const condition = `if two students differ on a fifth of the questions${comparedCount > 1 ? `; the level is shared by ${comparedCount} comparisons` : ''}`;
  const found =
    middle?.seedsIndependent === undefined
      ? `will find no difference with ${percent(power)} % power, however large`
      : `will find a true difference of about ${range(middle, seedCount)} points with ${percent(power)} % power`;
  return `${questionCount} questions and ${seeds} ${found}, ${condition}. Smaller effects will look like none.`;
};

const points = (share: number | undefined): string => (share === undefined ? 'none' : percent(share));

const range = ({ seedsAlike, seedsIndependent }: StudyPlan['rows'][number], seedCount: number): string =>
  seedCount === 1 ? points(seedsAlike) : `${points(seedsIndependent)} to ${points(seedsAlike)}`;

/** A plan for the terminal: one sentence, then the table. */
export const renderPlan = (plan: StudyPlan, width = 120): string => {
  const { seedCount, rows } = plan;
  const columns = [
    'only one of two right, %',
    'found with one seed, points',
    ...(seedCount > 1 ? [`with ${seedCount} seeds, points`] : []),
  ];
  return [
    ...wrap(planSentence(plan), width),
    '',
    ...tableLines(
      {
        columns: columns.map((name) => ({ name, align: 'right' })),
        rows: rows.map((row) => [percent(row.discordance), points(row.oneSeed), ...(seedCount > 1 ? [range(row, seedCount)] : [])]),
      },
      width,
    ),
    ...(seedCount > 1
      ? ['', 'With several seeds: between errors that are independent from seed to seed, and the same errors in each.']
      : []),
    ...(seedCount < 5 ? ['', 'Fewer than five seeds: what is found is conditional on these seeds.'] : []),
    '',
  ].join('\n');
};
