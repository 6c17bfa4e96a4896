import { InternalError } from '../base/errors.ts';
import { scalar, type Value } from '../graph/value.ts';
import { add, exp, mul, sub } from '../ops/elementwise.ts';
import { logSoftmax } from '../ops/normalisation.ts';
import { reduceSum } from '../ops/reduce.ts';
import { crossEntropy } from './cross-entropy.ts';
import type { LossInputs, LossValues } from './loss.ts';

/**
 * KL(teacher ‖ student) at temperature T: Σ_v p_v·(log p_v − log q_v) with p = softmax(teacher / T), q = softmax(student / T). [tokens].
 */
export const forwardKl = (studentLogits: Value, teacherLogits: Value, temperature: number): Value => {
  const inverse = scalar(1 / temperature);
  const teacher = logSoftmax(mul(teacherLogits, inverse));
  const student = logSoftmax(mul(studentLogits, inverse));
  return reduceSum(mul(exp(teacher), sub(teacher, student)), [1], false);
};

/** α·CE + (1 − α)·T²·KL(teacher ‖ student) (Hinton et al. 2015; the mix of arXiv 2412.17846). */
export const distillation = (
  inputs: LossInputs,
  { alpha, temperature }: { readonly alpha: number; readonly temperature: number },
): LossValues => {
  if (inputs.teacherLogits === undefined) throw new InternalError('the distillation loss was given no teacher logits');
  const hard = crossEntropy(inputs).total;
  const soft = mul(forwardKl(inputs.logits, inputs.teacherLogits, temperature), inputs.weights);
  return {
    total: add(mul(hard, scalar(alpha)), mul(soft, scalar((1 - alpha) * temperature * temperature))),
    terms: { 'cross-entropy': hard, 'forward-kl': soft },
  };
};
