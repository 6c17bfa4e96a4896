import type { Random } from '../base/random.ts';

export interface Pick {
  readonly token: number;
  /** log p(token) at temperature 1 over the whole vocabulary. */
  readonly logProbability: number;
}

/**
 * The next token from logits: the likeliest at temperature 0 (the first of equals), else one drawn from softmax(logits / temperature) cut
 * to its likeliest tokens whose probabilities reach `topP` (Holtzman et al. 2020).
 */
export const pickToken = (logits: Float32Array, { temperature, topP }: { temperature: number; topP: number }, random: Random): Pick => {
  let best = 0;
  for (let token = 1; token < logits.length; token++) if ((logits[token] as number) > (logits[best] as number)) best = token;
  const greatest = logits[best] as number;
  let sum = 0;
  for (let token = 0; token < logits.length; token++) sum += Math.exp((logits[token] as number) - greatest);
  const logSum = greatest + Math.log(sum);
  const token = temperature === 0 ? best : drawToken(logits, greatest, temperature, topP, random);
  return { token, logProbability: (logits[token] as number) - logSum };
};

const drawToken = (logits: Float32Array, greatest: number, temperature: number, topP: number, random: Random): number => {
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - greatest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const order = topP < 1 ? nucleus(weights, total * topP) : undefined;
  let rest = random.uniform() * (order === undefined ? total : order.reduce((sum, token) => sum + (weights[token] as number), 0));
  const candidates = order ?? weights.keys();
  let last = 0;
  for (const token of candidates) {
    last = token;
    rest -= weights[token] as number;
    if (rest < 0) break;
  }
  return last;
};

/** The likeliest tokens, in falling order, up to the first that brings their weights to `mass`. */
const nucleus = (weights: Float64Array, mass: number): number[] => {
  // Few tokens hold the mass: sorting those above a falling threshold is far cheaper than sorting the vocabulary.
  for (let threshold = 1e-3; ; threshold *= 1e-3) {
    const candidates: number[] = [];
    for (let token = 0; token < weights.length; token++) if ((weights[token] as number) >= threshold) candidates.push(token);
    candidates.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
    let sum = 0;
    for (const [count, token] of candidates.entries()) {
      sum += weights[token] as number;
      if (sum >= mass) return candidates.slice(0, count + 1);
    }
    if (candidates.length === weights.length) return candidates;
  }
};
