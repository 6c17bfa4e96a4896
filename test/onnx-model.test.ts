import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { InternalError } from '../src/base/errors.ts';
import { type Graph, graphOf } from '../src/graph/graph.ts';
import { float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { constant, input } from '../src/graph/value.ts';
import { add, concat, mul, neg } from '../src/ops/index.ts';
import { type CompileOptions, compileProgram } from '../src/runtime/onnx-program.ts';

const vector = (...values: number[]): HostTensor => ({ dataType: 'float32', shape: [values.length], data: Float32Array.from(values) });

const runOnce = async (graph: Graph, feeds: Record<string, HostTensor>, options?: CompileOptions): Promise<Record<string, number[]>> => {
  const program = await compileProgram(graph, { threadCount: 1, ...options });
  try {
    const outputs = await program.run(feeds);
    return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data, Number)]));
  } finally {
    await program.release();
  }
};

describe('graphs as ONNX models', () => {
  const x = input('x', float32(2));
  const w = input('w', float32(2));

  it('give an output that is an input, a constant, or another output under its own name', async () => {
    const minus = neg(x);
    const outputs = await runOnce(graphOf({ same: x, three: constant(vector(3, 3)), minus, again: minus }), { x: vector(1, 2) });
    assert.deepEqual(outputs, { same: [1, 2], three: [3, 3], minus: [-1, -2], again: [-1, -2] });
  });

  it('take a list of inputs, one of them twice', async () => {
    assert.deepEqual((await runOnce(graphOf({ y: concat([x, w, x], 0) }), { x: vector(1, 2), w: vector(3, 4) })).y, [1, 2, 3, 4, 1, 2]);
  });

  it('do not confuse a name of the user with one of their own', async () => {
    // The names that the writer makes up for inner values: `neg_0_0` and `constant_0`.
    const strange = input('neg_0_0', float32(2));
    const stranger = input('constant_0', float32(2));
    const y = add(add(neg(strange), stranger), constant(vector(100, 100)));
    const outputs = await runOnce(graphOf({ add_2_0: y }), { neg_0_0: vector(1, 2), constant_0: vector(10, 20) });
    assert.deepEqual(outputs, { add_2_0: [109, 118] });
  });

  it('hold weights in their bytes, or in a file beside the model', async () => {
    const graph = graphOf({ y: mul(x, w) });
    const inside = await runOnce(graph, { x: vector(1, 2) }, { weights: new Map([['w', vector(3, 4)]]) });
    assert.deepEqual(inside.y, [3, 8]);
    const folder = await mkdtemp(join(tmpdir(), 'retort-onnx-'));
    try {
      await writeFile(join(folder, 'weights.bin'), new Uint8Array(Float32Array.of(9, 3, 4).buffer));
      const beside = new Map([['w', { location: 'weights.bin', offset: 4, byteLength: 8 }]]);
      assert.deepEqual((await runOnce(graph, { x: vector(1, 2) }, { weights: beside, weightsFolder: folder })).y, [3, 8]);
      assert.deepEqual(await readdir(folder), ['weights.bin'], 'the graph written beside the weights stays behind');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('refuse a weight or an input of another shape, naming it', async () => {
    const graph = graphOf({ y: mul(x, w) });
    const names = (error: unknown): boolean => error instanceof InternalError && /"w"/.test(error.message) && /\[3\]/.test(error.message);
    await assert.rejects(runOnce(graph, { x: vector(1, 2) }, { weights: new Map([['w', vector(1, 2, 3)]]) }), names);
    await assert.rejects(runOnce(graph, { x: vector(1, 2), w: vector(1, 2, 3) }), names);
    await assert.rejects(runOnce(graph, { x: vector(1, 2) }), /no tensor was given for "w"/);
  });

  it('write an output into memory that is given', async () => {
    const program = await compileProgram(graphOf({ y: neg(x) }), { threadCount: 1 });
    const target = vector(0, 0);
    try {
      const { y } = await program.run({ x: vector(1, 2) }, { y: target });
      assert.deepEqual(Array.from(target.data, Number), [-1, -2]);
      assert.equal(y, target);
    } finally {
      await program.release();
    }
    await assert.rejects(program.run({ x: vector(1, 2) }), InternalError);
  });
});
