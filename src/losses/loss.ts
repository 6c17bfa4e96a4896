import type { Value } from '../graph/value.ts';

/** What a loss sees of the tokens it is taken over. */
export interface LossInputs {
  /** The student's, [tokens, vocabulary]. */
  readonly logits: Value;
  /** The tokens that were to be predicted, int32 or int64 [tokens]. */
  readonly targets: Value;
  /** [tokens]; 0 where a place is only filled up. */
  readonly weights: Value;
  /** −log p(target), [tokens], where it was made otherwise than from the logits. */
  readonly negativeLogLikelihood?: Value;
  /** [tokens, vocabulary], for losses against a teacher. */
  readonly teacherLogits?: Value;
}

/**
 * A loss over tokens: each token's share, weighted. Shares are summed, and the sum is divided once, by the token count of the whole
 * optimiser step; a loss never takes a mean.
 */
export interface LossValues {
  /** What is minimised: [tokens], weighted. */
  readonly total: Value;
  /** The parts of the total before they are mixed, to be reported apart: [tokens] each, weighted. */
  readonly terms: Readonly<Record<string, Value>>;
}
