import { crossEntropy } from '../losses/cross-entropy.ts';
import { distillation } from '../losses/forward-kl.ts';
import type { LossInputs, LossValues } from '../losses/loss.ts';
import type { LossSpecification } from './engine.ts';

type LossOf<Name> = (inputs: LossInputs, specification: Extract<LossSpecification, { name: Name }>) => LossValues;

/** Losses by the names that go over the wire. */
const losses: { readonly [Name in LossSpecification['name']]: LossOf<Name> } = {
  'cross-entropy': crossEntropy,
  distillation,
};

export const lossValues = (inputs: LossInputs, specification: LossSpecification): LossValues =>
  // The row and the specification have one name, which TypeScript cannot see through the index.
  (losses[specification.name] as LossOf<LossSpecification['name']>)(inputs, specification as never);

/** Whether a loss is taken against a teacher: its rows must carry the teacher's logits. */
export const needsTeacherLogits = (specification: LossSpecification): boolean => specification.name === 'distillation';
