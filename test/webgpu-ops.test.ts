import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { randomFrom } from '../src/base/random.ts';
import type { Graph } from '../src/graph/graph.ts';
import type { DataType, HostTensor } from '../src/graph/tensor-type.ts';
import { allOps } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { compileProgram, MissingOpError } from '../src/runtime/onnx-program.ts';
import { opSamples } from './op-samples.ts';
import type { Sample } from './sample-tensors.ts';
import { assertClose, describeSample, trace } from './traced-sample.ts';
import { withoutWebgpu } from './webgpu.ts';

/** Ops for which the provider lacks a kernel, of which inputs (absent: of any), and why it is not missed. */
const withoutKernel: Readonly<Record<string, { readonly dataType?: DataType; readonly reason: string }>> = {
  ...Object.fromEntries(
    ['add', 'sub', 'mul', 'div', 'equal', 'less', 'greaterOrEqual', 'cast', 'reshape'].map((name) => [
      name,
      { dataType: 'int64', reason: 'WebGPU has no 64-bit integers; ids and positions only pick elements' } as const,
    ]),
  ),
  gather: { dataType: 'int64', reason: 'the gradient repeats the indices; token ids are int32' },
  scatterElementsAdd: { dataType: 'int64', reason: 'whole rows repeat the indices; token ids are int32' },
  slice: { dataType: 'bool', reason: 'masks are not sliced' },
  quantizeRows: { reason: 'precision int8 is for processors' },
  integerProduct: { reason: 'precision int8 is for processors' },
};

const isListed = (op: string, { inputs }: Sample): boolean => {
  const entry = withoutKernel[op];
  return entry !== undefined && (entry.dataType === undefined || inputs.some(({ dataType }) => dataType === entry.dataType));
};

/** Matrix products have a sample for every flag, batch and size, and every shape is a shader of its own: these take a part of them. */
const samplesTaken = 8;

/** Some of many, evenly spread. */
const spread = <Item>(items: readonly Item[], count: number): Item[] =>
  items.length <= count
    ? [...items]
    : Array.from({ length: count }, (_, index) => items[Math.floor((index * items.length) / count)] as Item);

const compareOnWebgpu = async (graph: Graph, feeds: Readonly<Record<string, HostTensor>>, what: string): Promise<void> => {
  const program = await compileProgram(graph, { device: 'webgpu' });
  try {
    const expected = interpret(graph, feeds, { float: 'float64' });
    const actual = await program.run(feeds);
    for (const name of graph.outputs.keys()) assertClose(actual[name], expected[name], `${what}, ${name}`, 1e-4);
  } finally {
    await program.release();
  }
};

describe('on WebGPU', { skip: withoutWebgpu }, () => {
  for (const op of allOps) {
    it(`${op.name} means the same as its reference, and so does its gradient`, async () => {
      const samples = opSamples[op.name]?.samples ?? [];
      for (const [index, sample] of spread(samples, samplesTaken).entries()) {
        const { feeds, graph } = trace(sample, op.gradient.kind === 'exact', randomFrom(2, op.name, index));
        try {
          await compareOnWebgpu(graph, feeds, describeSample(sample));
        } catch (error) {
          if (!(error instanceof MissingOpError)) throw error;
          assert.ok(isListed(op.name, sample), `no kernel for ${op.name} of ${describeSample(sample)}, and no reason listed`);
        }
      }
    });
  }

  it('lacks no kernel but those that are listed, and lacks those', async () => {
    for (const name of Object.keys(withoutKernel)) {
      const op = allOps.find((row) => row.name === name);
      const sample = opSamples[name]?.samples.find((candidate) => isListed(name, candidate));
      assert.ok(op !== undefined && sample !== undefined, name);
      const { graph } = trace(sample, op.gradient.kind === 'exact', randomFrom(2, name));
      await assert.rejects(compileProgram(graph, { device: 'webgpu' }), MissingOpError, name);
    }
  });
});
