import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { randomFrom } from '../src/base/random.ts';
import { bootstrapRatio } from '../src/evaluation/bootstrap.ts';
import { compareLikelihoods, compareScores, pairCounts } from '../src/evaluation/compare-arms.ts';
import { crossedMean, mean, meanSquares, proportionPseudo } from '../src/evaluation/crossed.ts';
import { detectableDifference, detectableFrom } from '../src/evaluation/detectable.ts';
import { incompleteBeta, logGamma, normalCdf, normalQuantile, studentCdf, studentQuantile } from '../src/evaluation/distributions.ts';
import { holm } from '../src/evaluation/holm.ts';
import { planStudy } from '../src/evaluation/plan.ts';
import { type Interval, wilsonInterval } from '../src/evaluation/proportion.ts';
import { exactSignFlipTest, mcnemarTest, signFlipTest } from '../src/evaluation/sign-flip.ts';
import { planSentence, renderPlan } from '../src/report/render-plan.ts';
import { type Population, simulateArms, trueAccuracy } from './simulated-arms.ts';

/** Written by test/golden/evaluation_statistics.py from scipy and statsmodels. */
const golden = JSON.parse(readFileSync(join(import.meta.dirname, 'golden/statistics.json'), 'utf8'));

const isNear = (actual: number, expected: number, tolerance = 1e-9, what = ''): void =>
  assert.ok(Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)), `${what} expected ${expected}, got ${actual}`);

/** To so many relative digits, also where the number is tiny. */
const isProportional = (actual: number, expected: number, tolerance: number, what: string): void =>
  assert.ok(Math.abs(actual - expected) <= tolerance * Math.abs(expected) + 1e-300, `${what} expected ${expected}, got ${actual}`);

describe('distributions', () => {
  const { distributions } = golden;
  it('are scipy’s', () => {
    for (const { x, value } of distributions.logGamma) isNear(logGamma(x), value, 1e-12, `log Γ(${x})`);
    for (const { x, a, b, value } of distributions.incompleteBeta)
      isProportional(incompleteBeta(x, a, b), value, 1e-9, `I_${x}(${a}, ${b})`);
    for (const { x, value } of distributions.normalCdf) isProportional(normalCdf(x), value, 1e-10, `Φ(${x})`);
    for (const { x, df, value } of distributions.studentCdf) isProportional(studentCdf(x, df), value, 1e-9, `t_${df}(${x})`);
    for (const { p, value } of distributions.normalQuantile) isNear(normalQuantile(p), value, 1e-9, `Φ⁻¹(${p})`);
    for (const { p, df, value } of distributions.studentQuantile) isNear(studentQuantile(p, df), value, 1e-8, `t_${df}⁻¹(${p})`);
  });
});

describe('Wilson’s interval', () => {
  it('is statsmodels’', () => {
    for (const { successes, count, confidence, low, high } of golden.wilson) {
      const interval = wilsonInterval(successes, count, confidence);
      isNear(interval.low, low, 1e-10, `low of ${successes}/${count}`);
      isNear(interval.high, high, 1e-10, `high of ${successes}/${count}`);
    }
  });

  it('gives the published examples: Newcombe 1998, Statistics in Medicine 17, table I, method 3', () => {
    const published: [number, number, number, number][] = [
      [81, 263, 0.2553, 0.3662],
      [15, 148, 0.0624, 0.1605],
      [0, 20, 0, 0.1611],
      [1, 29, 0.0061, 0.1718],
    ];
    for (const [successes, count, low, high] of published) {
      const interval = wilsonInterval(successes, count);
      assert.equal(interval.low.toFixed(4), low.toFixed(4));
      assert.equal(interval.high.toFixed(4), high.toFixed(4));
    }
  });

  it('mirrors: failures are successes seen from the other side (law)', () => {
    fc.assert(
      fc.property(fc.nat(2000), fc.nat(2000), (a, b) => {
        const interval = wilsonInterval(a, a + b);
        const mirrored = wilsonInterval(b, a + b);
        isNear(interval.low, 1 - mirrored.high, 1e-12);
        isNear(interval.high, 1 - mirrored.low, 1e-12);
        assert.ok(interval.low >= 0 && interval.high <= 1);
      }),
    );
  });

  it('over no questions says nothing', () => assert.deepEqual(wilsonInterval(0, 0), { low: 0, high: 1, confidence: 0.95 }));
});

describe('McNemar’s exact test', () => {
  it('is statsmodels’', () => {
    for (const { b, c, exact, mid } of golden.mcnemar) {
      const test = mcnemarTest(b, c);
      isProportional(test.pValue, exact, 1e-9, `${b}, ${c}`);
      isProportional(test.midPValue, mid, 1e-9, `mid-p of ${b}, ${c}`);
    }
  });

  it('gives the published example: Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91, table 2', () => {
    // airway hyper-responsiveness before and after stem cell transplantation: 1 and 7 discordant pairs
    const { pValue, midPValue } = mcnemarTest(1, 7);
    assert.equal(pValue.toFixed(4), '0.0703');
    assert.equal(midPValue.toFixed(4), '0.0391');
  });

  it('without discordant questions finds nothing', () => assert.deepEqual(mcnemarTest(0, 0), { pValue: 1, midPValue: 1 }));

  it('counts pairs', () => {
    const { pValue, midPValue, ...counts } = pairCounts([true, true, true, false, false, true], [true, false, false, true, false, true]);
    assert.deepEqual(counts, { bothCount: 2, onlyFirstCount: 2, onlySecondCount: 1, neitherCount: 1 });
    assert.equal(pValue, 1);
    assert.ok(midPValue < 1);
  });
});

describe('the sign-flip test', () => {
  it('is scipy’s over all sign patterns', () => {
    for (const { differences, pValue } of golden.signFlip)
      isNear(exactSignFlipTest(differences).pValue, pValue, 1e-12, String(differences));
  });

  it('by drawing comes near the exact one', () => {
    const differences = [3, -1, 2, 2, 1, -2, 3, 1, 0, 1, 2, -1];
    const exact = exactSignFlipTest(differences).pValue;
    const drawn = signFlipTest(differences, randomFrom(1), 40_000).pValue;
    // four standard errors of a share of 40,000 draws
    isNear(drawn, exact, 4 * Math.sqrt((exact * (1 - exact)) / 40_000));
  });
});

describe('Holm’s correction', () => {
  it('is statsmodels’', () => {
    for (const { pValues, adjusted } of golden.holm) {
      for (const [index, value] of holm(pValues).entries()) isNear(value, adjusted[index], 1e-12);
    }
  });

  it('lies between the uncorrected values and Bonferroni’s, in the same order (law)', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 8 }), (pValues) => {
        const adjusted = holm(pValues);
        for (const [index, pValue] of pValues.entries()) {
          const own = adjusted[index] ?? Number.NaN;
          assert.ok(own >= pValue && own <= Math.min(1, pValues.length * pValue) + 1e-12);
          for (const [other, value] of pValues.entries()) if (value > pValue) assert.ok((adjusted[other] ?? 0) >= own);
        }
      }),
    );
  });
});

describe('the mean over questions and seeds', () => {
  it('has statsmodels’ mean squares, and Hillis’s interval with the floor on them', () => {
    for (const row of golden.crossed) {
      const squares = meanSquares(row.table);
      isNear(squares.seed, row.seed, 1e-10);
      isNear(squares.question, row.question, 1e-10);
      isNear(squares.error, row.error, 1e-10);
      const estimate = crossedMean(row.table);
      isNear(estimate.degreesOfFreedom, row.df, 1e-9);
      isNear(estimate.interval.low, row.low, 1e-8);
      isNear(estimate.interval.high, row.high, 1e-8);
      isNear(estimate.pValue, row.pValue, 1e-8);
      assert.equal(estimate.generality, 'questions and seeds');
    }
  });

  it('does not take copies of a seed for new evidence: five copies say what one says (law)', () => {
    const row = Array.from({ length: 60 }, (_, index) => (index % 3 === 0 ? 1 : 0));
    const one = crossedMean([row]);
    const five = crossedMean([row, row, row, row, row]);
    isNear(five.standardError, one.standardError, 1e-12);
    assert.equal(five.mean, one.mean);
  });

  it('is never narrower than that of the questions alone, however well seeds happen to agree (law)', () => {
    for (let study = 0; study < 50; study++) {
      const [table = []] = simulateArms(
        { level: 0, effect: 0, questionDeviation: 0.5, questionArmDeviation: 0, seedDeviation: 0, residualDeviation: 0 },
        1,
        5,
        50,
        randomFrom(study, 'agree'),
      );
      const perQuestion = (table[0] ?? []).map((_, question) => mean(table.map((row) => row[question] ?? 0)));
      const questionsAlone = crossedMean([perQuestion]).standardError;
      assert.ok(crossedMean(table).standardError >= questionsAlone * (1 - 1e-12));
    }
  });

  it('below five seeds speaks of questions alone', () => {
    const rows = [0, 1, 2, 3].map((seed) => Array.from({ length: 40 }, (_, index) => Number((index + seed) % 5 === 0)));
    assert.equal(crossedMean(rows).generality, 'questions');
    assert.equal(crossedMean([...rows, rows[0] ?? []]).generality, 'questions and seeds');
  });

  it('never is certain because nothing happened: no right answer in 300 leaves a width like Wilson’s', () => {
    const nothing = Array.from({ length: 5 }, () => new Array<number>(300).fill(0));
    const { interval } = crossedMean(nothing, { pseudo: proportionPseudo });
    assert.ok(interval.high > 0.01 && interval.high < 0.03, String(interval.high));
    const difference = compareScores(nothing, nothing);
    assert.ok(difference.interval.low < -0.005 && difference.interval.high > 0.005);
    assert.equal(difference.pValue, 1);
  });
});

describe('comparing two arms', () => {
  const population: Population = {
    level: 0,
    effect: 0.4,
    questionDeviation: 1.5,
    questionArmDeviation: 0.5,
    seedDeviation: 0.15,
    residualDeviation: 0.5,
  };

  it('with one seed is McNemar’s test', () => {
    const [[first = []] = [], [second = []] = []] = simulateArms(population, 2, 1, 200, randomFrom(3));
    const counts = pairCounts(
      first.map((value) => value === 1),
      second.map((value) => value === 1),
    );
    const compared = compareScores([first], [second]);
    assert.equal(compared.test, 'exact McNemar');
    isNear(compared.pValue, counts.pValue, 1e-12);
    isNear(compared.difference, (counts.onlyFirstCount - counts.onlySecondCount) / 200, 1e-12);
  });

  it('turns its sign when the sides are swapped (law)', () => {
    for (const seedCount of [1, 3, 6]) {
      const [first = [], second = []] = simulateArms(population, 2, seedCount, 100, randomFrom(4));
      const forwards = compareScores(first, second);
      const backwards = compareScores(second, first);
      isNear(forwards.difference, -backwards.difference, 1e-12);
      isNear(forwards.interval.low, -backwards.interval.high, 1e-12);
      isNear(forwards.pValue, backwards.pValue, 1e-12);
    }
  });

  it('sets one row against every seed', () => {
    const [first = [], [untouched = []] = []] = simulateArms(population, 2, 5, 100, randomFrom(5));
    const compared = compareScores(first, [untouched]);
    assert.equal(compared.seedCount, 5);
    isNear(compared.difference, mean(first.map(mean)) - mean(untouched), 1e-12);
  });

  it('of log-likelihoods is the ratio of sums, with the bootstrap interval that scipy gives', () => {
    const { numerators, denominators, low, high } = golden.bootstrap;
    const { ratio, interval } = bootstrapRatio(numerators, denominators, randomFrom(6), { drawCount: 40_000 });
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    isNear(ratio, sum(numerators) / sum(denominators), 1e-12);
    // quantiles of 40,000 draws: about a hundredth of the width
    assert.ok(Math.abs(interval.low - low) < 0.02 * (high - low), `${interval.low}, scipy ${low}`);
    assert.ok(Math.abs(interval.high - high) < 0.02 * (high - low), `${interval.high}, scipy ${high}`);
    const zeros = numerators.map(() => 0);
    for (const seedCount of [1, 5]) {
      const table = new Array<number[]>(seedCount).fill(numerators);
      const compared = compareLikelihoods(table, [zeros], denominators, randomFrom(6));
      isNear(compared.difference, ratio, 1e-12, `${seedCount} seeds`);
      // the linearised ratio and the bootstrap agree within a tenth of the width
      assert.ok(Math.abs(compared.interval.low - low) < 0.1 * (high - low) && Math.abs(compared.interval.high - high) < 0.1 * (high - low));
    }
  });

  it('covers the true difference as often as it claims, and finds nothing in nothing (short simulation)', () => {
    // 400 studies: the standard error of a share of 95 % is 1.1 points; the long run is bench/statistics.ts
    const truth = trueAccuracy(population, true) - trueAccuracy(population, false);
    const covers = ({ low, high }: Interval, value: number) => low <= value && value <= high;
    let crossed = 0;
    let falseFindings = 0;
    for (let study = 0; study < 400; study++) {
      const [control = [], treated = []] = simulateArms(population, 2, 5, 120, randomFrom(study, 'cover'));
      if (covers(compareScores(treated, control).interval, truth)) crossed++;
      const arms = simulateArms({ ...population, effect: 0 }, 4, 5, 120, randomFrom(study, 'null'));
      const pValues = arms.slice(1).map((arm) => compareScores(arm, arms[0] ?? []).pValue);
      if (Math.min(...holm(pValues)) <= 0.05) falseFindings++;
    }
    assert.ok(crossed / 400 >= 0.93, `covers ${crossed} of 400`);
    assert.ok(falseFindings / 400 <= 0.05 + 2 * 0.011, `${falseFindings} false findings of 400`);
  });
});

describe('the detectable difference', () => {
  it('is Connor’s, solved by scipy', () => {
    for (const { questions, discordance, power, difference } of golden.connor) {
      isNear(detectableDifference(questions, discordance, { power }) ?? Number.NaN, difference, 1e-8);
    }
  });

  it('has the power it promises: the exact chance of rejection, summed over all tables', () => {
    for (const { power, truePower, questions, discordance } of golden.connor) {
      assert.ok(Math.abs(truePower - power) < 0.05, `${questions} questions, ${discordance}: ${truePower}`);
    }
  });

  it('is not there where no difference could be found', () => {
    assert.equal(detectableDifference(20, 0.05), undefined);
    assert.equal(detectableDifference(300, 0), undefined);
  });

  it('from a standard error is the sum of two quantiles', () => {
    // 1.959964 + 0.841621, the quantiles every table of power starts from
    isNear(detectableFrom(1, Number.POSITIVE_INFINITY), 2.8015851, 1e-7);
    assert.ok(detectableFrom(1, 4) > 3.7 && detectableFrom(1, 4) < 3.72); // t₄: 2.776445 + 0.940965 = 3.717410
  });

  it('in a plan shrinks with questions and independent seeds, and grows with the number of comparisons', () => {
    const plan = planStudy({ questionCount: 300, seedCount: 5, comparedCount: 1 });
    const row = plan.rows.find(({ discordance }) => discordance === 0.2);
    // golden: Connor's formula for 300 questions and a discordance of 0.2
    const expected = golden.connor.find(
      (one: { questions: number; discordance: number; power: number }) =>
        one.questions === 300 && one.discordance === 0.2 && one.power === 0.8,
    );
    isNear(row?.oneSeed ?? Number.NaN, expected.difference, 1e-8);
    assert.equal(row?.seedsAlike, row?.oneSeed);
    // a formula in δ²·n: five times the questions, about √5 times finer
    assert.ok(Math.abs((row?.oneSeed ?? 0) / (row?.seedsIndependent ?? 1) / Math.sqrt(5) - 1) < 0.03);
    const family = planStudy({ questionCount: 300, seedCount: 5, comparedCount: 3 }).rows.find(({ discordance }) => discordance === 0.2);
    assert.ok((family?.oneSeed ?? 0) > (row?.oneSeed ?? 0));
    assert.match(
      renderPlan(plan),
      /^300 questions and 5 seeds will find a true difference of about 3\.2 to 7\.2 points with 80\.0 % power/,
    );
    assert.match(renderPlan(planStudy({ questionCount: 20, seedCount: 1, comparedCount: 1 })), /5\.0 +none/);
    const few = planSentence(planStudy({ questionCount: 2, seedCount: 1, comparedCount: 1 }));
    assert.match(few, /^2 questions and one seed will find no difference with 80\.0 % power, however large/);
  });
});
