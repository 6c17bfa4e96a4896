import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { recomputed } from '../src/autodiff/recomputed.ts';
import { randomFrom } from '../src/base/random.ts';
import { createEngine } from '../src/engines/create-engine.ts';
import type { EngineSpecification, ParameterSet } from '../src/engines/engine.ts';
import { lossGraph } from '../src/engines/step-graphs.ts';
import { type Graph, graphOf } from '../src/graph/graph.ts';
import { peakBytes } from '../src/graph/peak-bytes.ts';
import { elementCount, float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { input, type Value } from '../src/graph/value.ts';
import { llama } from '../src/models/llama.ts';
import * as ops from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { assertSame, crossEntropy, rowsOf, withRandomB } from './engine-laws/suite.ts';
import { gradientsOf } from './golden/compare.ts';
import { tinyLora, tinySpecification } from './golden/golden-files.ts';

const sum = (x: Value): Value => ops.reduceSum(x, [...x.type.shape.keys()]);

/** Three parts, each tanh(x·W) times a value that all share, with the slope of their sum by every matrix and the first x. */
const parts = (through: (part: (x: Value) => Value, x: Value, trained: ReadonlySet<string>) => Value): Graph => {
  const x = input('x', float32(8, 16));
  const shared = input('shared', float32(8, 1));
  const names = ['first', 'second', 'third'];
  const matrices = names.map((name) => input(name, float32(16, 16)));
  const trained = new Set(['first', 'third']);
  const result = matrices.reduce((value, matrix) => through((one) => ops.mul(ops.tanh(ops.gemm(one, matrix)), shared), value, trained), x);
  const wanted = [x, matrices[0], matrices[2]] as Value[];
  const slopes = gradient(sum(ops.square(result)), wanted);
  return graphOf({ result, ...Object.fromEntries(slopes.map((slope, index) => [`slope${index}`, slope])) });
};

const feedsOf = ({ inputs }: Graph): Record<string, HostTensor> => {
  const random = randomFrom(5, 'feeds');
  return Object.fromEntries(
    [...inputs].map(([name, { type }]) => [
      name,
      { ...type, data: Float32Array.from({ length: elementCount(type.shape) }, random.normal) },
    ]),
  );
};

describe('what is computed once more on the way back', () => {
  const [kept, again] = [parts((part, x) => part(x)), parts(recomputed)];

  it('has the same value and the same gradients', () => {
    const feeds = feedsOf(kept);
    assert.deepEqual(interpret(again, feeds, { float: 'float64' }), interpret(kept, feeds, { float: 'float64' }));
  });

  it('makes no gradient of what is not trained', () => {
    const products = (graph: Graph): number => graph.nodes.filter(({ op }) => op.name === 'gemm').length;
    // Three more on the way back, but no more slopes
    assert.equal(products(again), products(kept) + 3);
  });

  it('does not wait in memory for the way back', () => {
    const decoder = llama({
      ...{ architectures: ['LlamaForCausalLM'], vocab_size: 64, hidden_size: 32, intermediate_size: 96, num_hidden_layers: 12 },
      ...{ num_attention_heads: 4, num_key_value_heads: 2, rms_norm_eps: 1e-5, rope_theta: 10_000, max_position_embeddings: 512 },
      ...{ tie_word_embeddings: true, hidden_act: 'silu' },
    });
    const shape = { batch: 1, sequence: 128, lossCount: 128 };
    const adapted = [...decoder.linearModules.keys()].flatMap((module) => [`${module}.lora_A.weight`, `${module}.lora_B.weight`]);
    const bytesOf = (activations: 'kept' | 'recomputed'): number =>
      peakBytes(lossGraph({ decoder, lora: { ...tinyLora, dropout: 0 }, shape }, crossEntropy, { trainable: adapted, activations }));
    assert.ok(bytesOf('recomputed') < bytesOf('kept') / 4, `${bytesOf('recomputed')} beside ${bytesOf('kept')}`);
  });
});

describe('an engine with recomputed activations', () => {
  const trained = async (changes: Partial<EngineSpecification>): Promise<ParameterSet> => {
    const engine = await createEngine({ ...tinySpecification({ parameters: tinyLora, layout: 'thread' }), ...changes });
    try {
      const start = await engine.parameters();
      await engine.load(changes.parameters?.kind === 'all' ? start : withRandomB(start));
      return await gradientsOf(engine, rowsOf([40, 25, 33, 60], 9), crossEntropy);
    } finally {
      await engine.release();
    }
  };

  for (const [what, changes] of [
    ['float32', {}],
    ['int8', { precision: 'int8' }],
    ['dropout', { parameters: { ...tinyLora, dropout: 0.3 } }],
    ['every parameter trained', { parameters: { kind: 'all' } }],
  ] as const satisfies readonly (readonly [string, Partial<EngineSpecification>])[]) {
    it(`has the same bytes of gradients: ${what}`, async () => {
      assertSame(await trained({ ...changes, activations: 'recomputed' }), await trained(changes), 'gradients');
    });
  }
});
