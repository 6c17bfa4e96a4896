import { constant, type Value } from '../graph/value.ts';
import { after } from '../ops/after.ts';
import { split } from '../ops/broadcasting.ts';
import { exp, mul, neg } from '../ops/elementwise.ts';
import { gatherElements, scatterElementsAdd } from '../ops/indexing.ts';
import { gemm } from '../ops/matmul.ts';
import { logSoftmax } from '../ops/normalisation.ts';
import { concat, reshape } from '../ops/shape.ts';
import { surrogate } from '../ops/surrogate.ts';
import type { Scope } from './scope.ts';

/**
 * −log p of each target under softmax(x·Eᵀ), and its gradient with respect to x, for a head E that is not trained: x [tokens, inputs], targets int32
 * [tokens], to likelihood [tokens] and slope [tokens, inputs].
 */
export type FrozenHead = (
  head: string,
  x: Value,
  targets: Value,
  vocabularySize: number,
) => { readonly likelihood: Value; readonly slope: Value };

/** d(−log p_t)/dx = (p − 1_t)·E with p = softmax(x·Eᵀ). */
export const floatHead =
  (parameter: Scope['parameter']): FrozenHead =>
  (head, x, targets, vocabularySize) => {
    const [tokenCount, inputCount] = x.type.shape as [number, number];
    const matrix = parameter(head, [vocabularySize, inputCount]);
    const places = reshape(targets, [tokenCount, 1]);
    const logProbabilities = logSoftmax(gemm(x, matrix, { transposeB: true })); // [tokens, vocabulary]
    const minusOne = constant({ dataType: 'float32', shape: [tokenCount, 1], data: new Float32Array(tokenCount).fill(-1) });
    return {
      likelihood: neg(reshape(gatherElements(logProbabilities, places, 1), [tokenCount])),
      slope: gemm(scatterElementsAdd(exp(logProbabilities), places, minusOne, 1), matrix),
    };
  };

/** Tokens whose logits exist at once. Smaller slices would pack the head's matrix more often than they save. */
const sliceLength = 256;

/**
 * The likelihood of all tokens, slice by slice, so that the logits of all never exist. Since it is one number a token, its gradient is the slope times
 * what flows back, and the slope is made where the logits are: nothing of the vocabulary's size waits for the way back.
 *
 * @param differentiated whether slopes are wanted at all
 */
export const inSlices =
  (frozenHead: FrozenHead, differentiated: boolean): NonNullable<Scope['frozenLikelihood']> =>
  (head, x, targets, vocabularySize) => {
    const tokenCount = targets.type.shape[0] as number;
    const sizes = Array.from({ length: Math.ceil(tokenCount / sliceLength) }, (_, slice) =>
      Math.min(sliceLength, tokenCount - slice * sliceLength),
    );
    const [parts, partTargets] = [split(x, 0, sizes), split(targets, 0, sizes)];
    const likelihoods: Value[] = [];
    const slopes: Value[] = [];
    parts.forEach((part, index) => {
      const previous = differentiated ? slopes.at(-1) : likelihoods.at(-1);
      const own = frozenHead(head, previous === undefined ? part : after(part, previous), partTargets[index] as Value, vocabularySize);
      likelihoods.push(own.likelihood);
      slopes.push(own.slope);
    });
    const [likelihood] = surrogate([x], [concat(likelihoods, 0)], ([cotangent]) => [
      cotangent && mul(concat(slopes, 0), reshape(cotangent, [tokenCount, 1])),
    ]) as [Value];
    return likelihood;
  };
