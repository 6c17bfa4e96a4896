import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { randomFrom } from '../src/base/random.ts';
import { graphOf } from '../src/graph/graph.ts';
import { elementCount, float32, type HostTensor, int32, type Shape, type TensorType } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { gather, gatherElements, gemm, groupQueryAttention, logSoftmax, reduceSum, reshape, rmsNorm, silu } from '../src/ops/index.ts';
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

  it('updates a key-value cache in place, one token after another, each row at its own length', async () => {
    const [batch, heads, kvHeads, width, capacity] = [3, 4, 2, 16, 10];
    const types: Record<string, TensorType> = {
      query: float32(batch, 1, heads * width),
      key: float32(batch, 1, kvHeads * width),
      value: float32(batch, 1, kvHeads * width),
      pastKey: float32(batch, kvHeads, capacity, width),
      pastValue: float32(batch, kvHeads, capacity, width),
      seqlensK: int32(batch),
      totalSequenceLength: int32(1),
      cosine: float32(capacity, width / 2),
      sine: float32(capacity, width / 2),
    };
    const named = (name: string) => input(name, types[name] ?? assert.fail(name));
    const [y, presentKey, presentValue] = groupQueryAttention(
      {
        query: named('query'),
        key: named('key'),
        value: named('value'),
        pastKey: named('pastKey'),
        pastValue: named('pastValue'),
        seqlensK: named('seqlensK'),
        totalSequenceLength: named('totalSequenceLength'),
        cosine: named('cosine'),
        sine: named('sine'),
      },
      { numHeads: heads, kvNumHeads: kvHeads, scale: 0.25 },
    );
    const graph = graphOf({ y, presentKey, presentValue });
    const program = await compileProgram(graph, { threadCount: 2 });
    try {
      const cache = { pastKey: floats([batch, kvHeads, capacity, width]), pastValue: floats([batch, kvHeads, capacity, width]) };
      let copied: { pastKey: HostTensor; pastValue: HostTensor } = structuredClone(cache);
      const tables = { cosine: floats([capacity, width / 2]), sine: floats([capacity, width / 2]) };
      const lengths = [4, 1, 6];
      for (let step = 0; step < 3; step++) {
        const feeds = {
          query: floats([batch, 1, heads * width]),
          key: floats([batch, 1, kvHeads * width]),
          value: floats([batch, 1, kvHeads * width]),
          seqlensK: { ...int32(batch), data: Int32Array.from(lengths, (length) => length + step) },
          totalSequenceLength: { ...int32(1), data: Int32Array.of(Math.max(...lengths) + step + 1) },
          ...tables,
        };
        const expected = interpret(graph, { ...feeds, ...copied }, { float: 'float64' });
        const actual = await program.run({ ...feeds, ...cache }, { presentKey: cache.pastKey, presentValue: cache.pastValue });
        copied = { pastKey: expected.presentKey ?? assert.fail(), pastValue: expected.presentValue ?? assert.fail() };
        // In place, the cache keeps what lies beyond a row's length, as the reference does: all of it can be compared.
        for (const [left, right] of [
          [actual.y, expected.y],
          [cache.pastKey, copied.pastKey],
          [cache.pastValue, copied.pastValue],
        ]) {
          const [values, wanted] = [Array.from(left?.data ?? [], Number), Array.from(right?.data ?? [], Number)];
          const worst = Math.max(...values.map((value, index) => Math.abs(value - (wanted[index] as number))));
          assert.ok(worst < 1e-5, `step ${step}: ${worst}`); // float32 sums of at most 16 terms of size 1 or so
        }
      }
    } finally {
      await program.release();
    }
  });
});
