import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { randomFrom } from '../src/base/random.ts';
import { graphOf } from '../src/graph/graph.ts';
import { elementCount, float32, type HostTensor, int32, type Shape } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { gather, gatherElements, gemm, logSoftmax, pad, reduceSum, reshape, rmsNorm, silu, transpose } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { compileProgram } from '../src/runtime/onnx-program.ts';

const random = randomFrom(7, 'onnx-program');
const floats = (shape: Shape): HostTensor => ({
  dataType: 'float32',
  shape,
  data: Float32Array.from({ length: elementCount(shape) }, random.normal),
});
const ids = (shape: Shape, limit: number): HostTensor => ({
  dataType: 'int32',
  shape,
  data: Int32Array.from({ length: elementCount(shape) }, () => random.integer(limit)),
});

describe('a compiled program', () => {
  it('gives the same bytes at every run, on several threads too', async () => {
    // An embedding, a layer and a loss with all their gradients: reductions, products and scattering into repeated rows.
    const [rows, width, vocabulary] = [300, 96, 40];
    const embedding = input('embedding', float32(vocabulary, width));
    const weight = input('weight', float32(width, width));
    const scale = input('scale', float32(width));
    const tokens = input('tokens', int32(rows));
    const [normed] = rmsNorm(gather(embedding, tokens), scale, 1e-5);
    const logits = gemm(silu(gemm(normed, weight)), embedding, { transposeB: true });
    const loss = reduceSum(gatherElements(logSoftmax(logits), reshape(tokens, [rows, 1]), 1), [0, 1]);
    const slopes = gradient(loss, [embedding, weight, scale]);
    const graph = graphOf({ loss, ...Object.fromEntries(slopes.map((slope, index) => [`slope${index}`, slope])) });
    const feeds = {
      embedding: floats([vocabulary, width]),
      weight: floats([width, width]),
      scale: floats([width]),
      tokens: ids([rows], vocabulary),
    };
    const program = await compileProgram(graph, { threadCount: 2 });
    try {
      const first = await program.run(feeds);
      for (let run = 0; run < 20; run++) assert.deepEqual(await program.run(feeds), first);
    } finally {
      await program.release();
    }
  });
});

it('pads between transpositions that undo each other', async () => {
  // ONNX Runtime moves one past the Pad to meet the other, and went wrong over a Pad that names its axes.
  const x = input('x', float32(2, 3, 4));
  const graph = graphOf({ y: transpose(pad(transpose(x, [0, 2, 1]), 2, 2, 1), [0, 2, 1]) });
  const feeds = { x: { ...float32(2, 3, 4), data: Float32Array.from({ length: 24 }, (_, index) => index + 1) } };
  const program = await compileProgram(graph, { threadCount: 1 });
  try {
    assert.deepEqual((await program.run(feeds)).y?.data, interpret(graph, feeds, { float: 'float32' }).y?.data);
  } finally {
    await program.release();
  }
});
