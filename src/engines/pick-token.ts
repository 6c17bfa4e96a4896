import type { Random } from '../base/random.ts';

export interface Pick {
  readonly token: number;
  /** log p(token) at temperature 1 over the whole vocabulary. */
  readonly logProbability: number;
}

/**
 * The next token from log-probabilities (at temperature 1): the likeliest at temperature 0 (the first of equals), else one drawn from
 * softmax(log p / temperature) cut to its likeliest tokens whose probabilities reach `topP` (Holtzman et al. 2020).
 */
export const pickToken = (
  logProbabilities: Float32Array,
  { temperature, topP }: { temperature: number; topP: number },
  random: Random,
): Pick => {
  const token = temperature === 0 ? likeliest(logProbabilities) : drawToken(logProbabilities, temperature, topP, random);
  return { token, logProbability: logProbabilities[token] as number };
};

const likeliest = (logProbabilities: Float32Array): number => {
  let best = 0;
  let greatest = logProbabilities[0] as number;
  for (let token = 1; token < logProbabilities.length; token++) {
    const value = logProbabilities[token] as number;
    if (value > greatest) {
      greatest = value;
      best = token;
    }
  }
  return best;
};

/**
 * Weights below e^−30 of the likeliest token's are taken for 0: a vocabulary of a million of them would change a probability by 1e-7, less
 * than float32 logits leave certain, and most tokens then cost no exponential.
 */
const negligible = -30;

const drawToken = (logProbabilities: Float32Array, temperature: number, topP: number, random: Random): number => {
  const greatest = logProbabilities[likeliest(logProbabilities)] as number;
  const floor = greatest + negligible * temperature;
  const candidates: number[] = [];
  const weights: number[] = [];
  let total = 0;
  for (let token = 0; token < logProbabilities.length; token++) {
    const value = logProbabilities[token] as number;
    if (value < floor) continue;
    const weight = Math.exp((value - greatest) / temperature);
    candidates.push(token);
    weights.push(weight);
    total += weight;
  }
  const kept = topP < 1 ? nucleus(weights, total * topP) : weights.keys().toArray();
  let rest = random.uniform() * kept.reduce((sum, index) => sum + (weights[index] as number), 0);
  for (const index of kept) {
    rest -= weights[index] as number;
    if (rest < 0) return candidates[index] as number;
  }
  // Rounding may leave a trace of the last interval.
  return candidates[kept.at(-1) as number] as number;
};

/** Indices of the greatest weights, in falling order, up to the first that brings their sum to `mass`. */
const nucleus = (weights: readonly number[], mass: number): number[] => {
  // Few tokens hold the mass: sorting those above a falling threshold is far cheaper than sorting all.
  for (let threshold = 1e-2; ; threshold *= 1e-2) {
    const candidates: number[] = [];
    for (let index = 0; index < weights.length; index++) if ((weights[index] as number) >= threshold) candidates.push(index);
    candidates.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
    let sum = 0;
    for (const [count, index] of candidates.entries()) {
      sum += weights[index] as number;
      if (sum >= mass) return candidates.slice(0, count + 1);
    }
    if (candidates.length === weights.length) return candidates;
  }
};
