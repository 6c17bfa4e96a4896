import { InternalError } from '../base/errors.ts';
import type { Random } from '../base/random.ts';

export interface TestResult {
  readonly pValue: number;
  /** P(at least as extreme) with half the weight of what was seen: closer to its nominal level, not guaranteed to keep it. */
  readonly midPValue: number;
}

/**
 * McNemar's exact test: of the questions that only one of two got right, is either side favoured? Two-sided binomial with p = ½
 * (McNemar 1947; mid-p: Fagerland, Lydersen and Laake 2013).
 */
export const mcnemarTest = (onlyFirstCount: number, onlySecondCount: number): TestResult => {
  const differences = [...Array<number>(onlyFirstCount).fill(1), ...Array<number>(onlySecondCount).fill(-1)];
  return exactSignFlipTest(differences);
};

/**
 * The exact paired randomisation test (Fisher 1935): under no effect each question's difference could as well have the other sign.
 * P(|Σ ±dᵢ| ≥ |Σ dᵢ|) over all 2ⁿ sign patterns, from the distribution of the sum, which whole numbers make small. With differences of
 * −1, 0 and 1 it is McNemar's test; with differences summed over seeds it keeps a question's seeds together.
 */
export const exactSignFlipTest = (differences: readonly number[]): TestResult => {
  if (!differences.every(Number.isSafeInteger)) throw new InternalError('the exact sign-flip test takes whole numbers');
  const sizes = differences.map(Math.abs).filter((size) => size > 0);
  const observed = Math.abs(differences.reduce((sum, difference) => sum + difference, 0));
  if (sizes.length === 0) return { pValue: 1, midPValue: 1 };
  const reach = sizes.reduce((sum, size) => sum + size, 0);
  // probabilities[reach + s] = P(the sum is s)
  let probabilities = new Float64Array(2 * reach + 1);
  probabilities[reach] = 1;
  let reached = 0;
  for (const size of sizes) {
    const next = new Float64Array(2 * reach + 1);
    for (let index = reach - reached; index <= reach + reached; index++) {
      const half = (probabilities[index] ?? 0) / 2;
      if (half === 0) continue;
      next[index - size] = (next[index - size] ?? 0) + half;
      next[index + size] = (next[index + size] ?? 0) + half;
    }
    probabilities = next;
    reached += size;
  }
  const at = (sum: number) => (probabilities[reach + sum] ?? 0) + (sum === 0 ? 0 : (probabilities[reach - sum] ?? 0));
  // From the outside in: small probabilities are added before large ones.
  let beyond = 0;
  for (let sum = reach; sum > observed; sum--) beyond += at(sum);
  const same = at(observed);
  return { pValue: Math.min(1, beyond + same), midPValue: Math.min(1, beyond + same / 2) };
};

/** The same test for real differences, over random sign patterns: (1 + at least as extreme) / (1 + drawn), Davison and Hinkley 1997. */
export const signFlipTest = (differences: readonly number[], random: Random, drawCount = 10_000): TestResult => {
  const observed = Math.abs(differences.reduce((sum, difference) => sum + difference, 0));
  // Sums in another order differ in the last bits: what is equal but for rounding counts as equal.
  const tolerance = 1e-12 * differences.reduce((sum, difference) => sum + Math.abs(difference), 0);
  let beyond = 0;
  let same = 0;
  for (let draw = 0; draw < drawCount; draw++) {
    let sum = 0;
    for (const difference of differences) sum += random.uniform() < 0.5 ? difference : -difference;
    const size = Math.abs(sum);
    if (size > observed + tolerance) beyond++;
    else if (size >= observed - tolerance) same++;
  }
  return { pValue: (1 + beyond + same) / (1 + drawCount), midPValue: (1 + beyond + same / 2) / (1 + drawCount) };
};
