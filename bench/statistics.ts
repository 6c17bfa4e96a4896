/**
 * Which interval may a report print? Coverage of several estimators over simulated studies of known truth, and the chance of any false
 * finding in a family of arms without effect. `node bench/statistics.ts [studies]`, 2,000 when not given; about ten minutes.
 */
import { randomFrom } from '../src/base/random.ts';
import { bootstrapInterval } from '../src/evaluation/bootstrap.ts';
import { compareScores } from '../src/evaluation/compare-arms.ts';
import { crossedMean, mean, meanSquares, proportionPseudo, variance } from '../src/evaluation/crossed.ts';
import { normalQuantile, studentQuantile } from '../src/evaluation/distributions.ts';
import { holm } from '../src/evaluation/holm.ts';
import { type Interval, wilsonInterval } from '../src/evaluation/proportion.ts';
import { type Population, simulateArms, trueAccuracy } from '../test/simulated-arms.ts';

const studyCount = Number(process.argv[2] ?? 2000);

const base = { effect: 0.3, questionDeviation: 1.5, questionArmDeviation: 0.5, residualDeviation: 0.5 };
const situations: { name: string; population: Population; seedCount: number; questionCount: number }[] = [
  { name: 'half right, seeds alike', population: { ...base, level: 0, seedDeviation: 0.02 }, seedCount: 5, questionCount: 300 },
  { name: 'half right, seeds differ', population: { ...base, level: 0, seedDeviation: 0.15 }, seedCount: 5, questionCount: 300 },
  { name: 'half right, seeds differ much', population: { ...base, level: 0, seedDeviation: 0.4 }, seedCount: 5, questionCount: 1319 },
  { name: '2 % right, seeds differ', population: { ...base, level: -5.2, seedDeviation: 0.15 }, seedCount: 5, questionCount: 300 },
  { name: 'ten seeds', population: { ...base, level: -1, seedDeviation: 0.15 }, seedCount: 10, questionCount: 300 },
];

type Table = readonly (readonly number[])[];
const wald = (centre: number, error: number, quantile: number): Interval => ({
  low: centre - quantile * error,
  high: centre + quantile * error,
  confidence: 0.95,
});

/** Estimators of a mean difference from its table [seeds][questions]. */
const estimators: Record<string, (table: Table, study: number) => Interval> = {
  'all answers pooled as independent': (table) => {
    const values = table.flat();
    return wald(mean(values), Math.sqrt(variance(values) / values.length), normalQuantile(0.975));
  },
  'questions only (bootstrap)': (table, study) => {
    const perQuestion = (table[0] ?? []).map((_, question) => mean(table.map((row) => row[question] ?? 0)));
    const statistic = (drawn: Int32Array) => drawn.reduce((sum, question) => sum + (perQuestion[question] ?? 0), 0) / drawn.length;
    return bootstrapInterval(perQuestion.length, statistic, randomFrom(study, 'bootstrap'), { drawCount: 400 });
  },
  'seeds only (t)': (table) => {
    const means = table.map(mean);
    return wald(mean(means), Math.sqrt(variance(means) / means.length), studentQuantile(0.975, means.length - 1));
  },
  'questions and seeds (two-way bootstrap)': (table, study) => {
    const random = randomFrom(study, 'two-way');
    const statistic = (drawn: Int32Array) => {
      let sum = 0;
      for (let place = 0; place < table.length; place++) {
        const row = table[random.integer(table.length)] ?? [];
        for (const question of drawn) sum += row[question] ?? 0;
      }
      return sum / (table.length * drawn.length);
    };
    return bootstrapInterval(table[0]?.length ?? 0, statistic, random, { drawCount: 400 });
  },
  'crossed, Hillis without a floor': (table) => {
    const { seed, question, error } = meanSquares(table);
    const bracket = seed + Math.max(question - error, 0);
    const quantile = studentQuantile(0.975, bracket ** 2 / (seed ** 2 / (table.length - 1)));
    return wald(mean(table.map(mean)), Math.sqrt(bracket / (table.length * (table[0]?.length ?? 0))), quantile);
  },
  'crossed, without pseudo-questions': (table) => crossedMean(table).interval,
  'crossed (used)': (table) => compareScores(table, [(table[0] ?? []).map(() => 0)]).interval,
};

const report = (name: string, covered: number, widths: number[]): void =>
  console.log(
    `  ${name.padEnd(44)} covers ${((100 * covered) / studyCount).toFixed(1).padStart(5)} %   mean width ${(100 * mean(widths)).toFixed(2).padStart(6)} points`,
  );

for (const [index, { name, population, seedCount, questionCount }] of situations.entries()) {
  const truth = trueAccuracy(population, true) - trueAccuracy(population, false);
  console.log(`${name}: ${questionCount} questions, ${seedCount} seeds, true difference ${(100 * truth).toFixed(2)} points`);
  const found = Object.fromEntries(Object.keys(estimators).map((estimator) => [estimator, { covered: 0, widths: [] as number[] }]));
  const single = { covered: 0, widths: [] as number[] };
  const level = { covered: 0, widths: [] as number[] };
  const wilson = { covered: 0, widths: [] as number[] };
  const conditional = { covered: 0, widths: [] as number[] };
  const note = (tally: { covered: number; widths: number[] }, { low, high }: Interval, target: number) => {
    if (low <= target && target <= high) tally.covered++;
    tally.widths.push(high - low);
  };
  for (let study = 0; study < studyCount; study++) {
    const [control = [], treated = []] = simulateArms(population, 2, seedCount, questionCount, randomFrom(study, 'study', index));
    const table = treated.map((row, seed) => row.map((value, question) => value - (control[seed]?.[question] ?? 0)));
    for (const [estimator, interval] of Object.entries(estimators)) {
      const tally = found[estimator];
      if (tally !== undefined) note(tally, interval(table, study), truth);
    }
    note(level, crossedMean(treated, { pseudo: proportionPseudo }).interval, trueAccuracy(population, true));
    // one seed by itself: students without spread between seeds, so that the interval's claim (about these seeds) is the truth at hand
    const alike = simulateArms({ ...population, seedDeviation: 0 }, 2, 1, questionCount, randomFrom(study, 'alike', index));
    const alikeTruth = trueAccuracy({ ...population, seedDeviation: 0 }, true);
    note(
      single,
      compareScores(alike[1] ?? [], alike[0] ?? []).interval,
      alikeTruth - trueAccuracy({ ...population, seedDeviation: 0 }, false),
    );
    const rightCount = (alike[1]?.[0] ?? []).reduce((sum, value) => sum + value, 0);
    note(wilson, wilsonInterval(rightCount, questionCount), alikeTruth);
    const three = simulateArms({ ...population, seedDeviation: 0 }, 2, 3, questionCount, randomFrom(study, 'three', index));
    note(
      conditional,
      compareScores(three[1] ?? [], three[0] ?? []).interval,
      alikeTruth - trueAccuracy({ ...population, seedDeviation: 0 }, false),
    );
  }
  for (const [estimator, { covered, widths }] of Object.entries(found)) report(estimator, covered, widths);
  report('accuracy of an arm, crossed (used)', level.covered, level.widths);
  report('accuracy of one student, Wilson (used)', wilson.covered, wilson.widths);
  report('difference of two students (used)', single.covered, single.widths);
  report('difference over three seeds, conditional (used)', conditional.covered, conditional.widths);
}

console.log('No effect: share of studies with any finding among four arms against the baseline, level 5 %');
for (const { name, population, seedCount, questionCount } of situations.filter((situation) => situation.questionCount <= 300)) {
  for (const seeds of [1, 3, seedCount]) {
    let any = 0;
    let uncorrected = 0;
    // conditional tests claim nothing about other seeds: they are judged on students without spread between seeds
    const seedDeviation = seeds < 5 ? 0 : population.seedDeviation;
    for (let study = 0; study < studyCount; study++) {
      const arms = simulateArms(
        { ...population, effect: 0, seedDeviation },
        5,
        seeds,
        questionCount,
        randomFrom(study, 'null', name, seeds),
      );
      const pValues = arms.slice(1).map((arm) => compareScores(arm, arms[0] ?? []).pValue);
      if (Math.min(...holm(pValues)) <= 0.05) any++;
      if (Math.min(...pValues) <= 0.05) uncorrected++;
    }
    const percent = (count: number) => `${((100 * count) / studyCount).toFixed(1)} %`;
    console.log(`  ${name}, ${seeds} seed(s): ${percent(any)} with Holm, ${percent(uncorrected)} without`);
  }
}
