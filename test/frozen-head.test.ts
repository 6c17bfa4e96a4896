import assert from 'node:assert/strict';
import { it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { randomFrom } from '../src/base/random.ts';
import { type Graph, graphOf } from '../src/graph/graph.ts';
import { peakBytes } from '../src/graph/peak-bytes.ts';
import { elementCount, float32, type HostTensor, int32 } from '../src/graph/tensor-type.ts';
import { input, type Value } from '../src/graph/value.ts';
import { negativeLogLikelihood } from '../src/losses/cross-entropy.ts';
import { floatHead, inSlices } from '../src/nn/frozen-head.ts';
import { gemm, mul, reduceSum } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { assertClose } from './traced-sample.ts';

const [width, vocabularySize] = [6, 40];

type Likelihood = (x: Value, matrix: Value, targets: Value) => Value;
const whole: Likelihood = (x, matrix, targets) => negativeLogLikelihood(gemm(x, matrix, { transposeB: true }), targets);
const sliced: Likelihood = (x, matrix, targets) =>
  inSlices(
    floatHead(() => matrix),
    true,
  )('head', x, targets, vocabularySize);

/** Weighted likelihoods of so many tokens, and what their sum's slope by x is. */
const graphWith = (likelihood: Likelihood, tokenCount: number): Graph => {
  const x = input('x', float32(tokenCount, width));
  const matrix = input('matrix', float32(vocabularySize, width));
  const losses = mul(likelihood(x, matrix, input('targets', int32(tokenCount))), input('weights', float32(tokenCount)));
  const [slope] = gradient(reduceSum(losses, [0]), [x]) as [Value];
  return graphOf({ losses, slope });
};

const feedsFor = (tokenCount: number): Record<string, HostTensor> => {
  const random = randomFrom(tokenCount, 'head');
  const floats = (...shape: number[]): HostTensor => ({
    ...float32(...shape),
    data: Float32Array.from({ length: elementCount(shape) }, random.normal),
  });
  const targets = Int32Array.from({ length: tokenCount }, () => random.integer(vocabularySize));
  return {
    ...{ x: floats(tokenCount, width), matrix: floats(vocabularySize, width), weights: floats(tokenCount) },
    targets: { ...int32(tokenCount), data: targets },
  };
};

for (const tokenCount of [1, 256, 700]) {
  it(`the likelihood of ${tokenCount} tokens in slices, and its gradient, are those of all at once`, () => {
    const feeds = feedsFor(tokenCount);
    const [expected, given] = [whole, sliced].map((likelihood) =>
      interpret(graphWith(likelihood, tokenCount), feeds, { float: 'float64' }),
    );
    for (const name of ['losses', 'slope']) assertClose(given?.[name], expected?.[name], name, 1e-12);
  });
}

it('takes the logits of one slice at once', () => {
  const bytesOf = (likelihood: Likelihood): number => peakBytes(graphWith(likelihood, 2048));
  assert.ok(bytesOf(sliced) < bytesOf(whole) / 4, `${bytesOf(sliced)} beside ${bytesOf(whole)}`);
});

it('computes no gradient where none is wanted', () => {
  const [x, matrix, targets] = [
    input('x', float32(700, width)),
    input('matrix', float32(vocabularySize, width)),
    input('targets', int32(700)),
  ];
  const losses = inSlices(
    floatHead(() => matrix),
    false,
  )('head', x, targets, vocabularySize);
  assert.equal(graphOf({ losses }).nodes.filter(({ op }) => op.name === 'gemm').length, 3);
});
