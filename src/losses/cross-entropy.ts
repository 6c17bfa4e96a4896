import type { Value } from '../graph/value.ts';
import { mul, neg } from '../ops/elementwise.ts';
import { gatherElements } from '../ops/indexing.ts';
import { logSoftmax } from '../ops/normalisation.ts';
import { reshape } from '../ops/shape.ts';
import type { LossInputs, LossValues } from './loss.ts';

/** −log p(target): [tokens]. */
export const negativeLogLikelihood = (logits: Value, targets: Value): Value => {
  const tokenCount = targets.type.shape[0] as number;
  const chosen = gatherElements(logSoftmax(logits), reshape(targets, [tokenCount, 1]), 1); // [tokens, 1]
  return neg(reshape(chosen, [tokenCount]));
};

/** CE = −Σ w·log p(target). */
export const crossEntropy = (inputs: LossInputs): LossValues => {
  const total = mul(inputs.negativeLogLikelihood ?? negativeLogLikelihood(inputs.logits, inputs.targets), inputs.weights);
  return { total, terms: { 'cross-entropy': total } };
};
