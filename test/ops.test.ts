import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ShapeError } from '../src/base/errors.ts';
import { type Random, randomFrom } from '../src/base/random.ts';
import { graphOf } from '../src/graph/graph.ts';
import { inSimplerOps } from '../src/graph/rewrite.ts';
import { describeType, type HostTensor } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { allOps, scatterAdd, zeros } from '../src/ops/index.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { compileProgram } from '../src/runtime/onnx-program.ts';
import { opSamples } from './op-samples.ts';
import type { Sample } from './sample-tensors.ts';
import { assertClose, describeSample, numbers, type Traced, trace } from './traced-sample.ts';

for (const op of allOps) {
  describe(`op ${op.name}`, () => {
    const table = opSamples[op.name];
    it('has samples that use it', () => {
      assert.ok(table !== undefined && table.samples.length > 0, `no samples of ${op.name} in test/op-samples.ts`);
      for (const sample of table.samples) {
        const { graph } = trace(sample, false, randomFrom(1, op.name));
        assert.ok(
          graph.nodes.some((node) => node.op === op),
          `a sample does not use ${op.name}: ${describeSample(sample)}`,
        );
      }
    });

    it('means the same to ONNX Runtime as to its reference, and so does its gradient', async () => {
      for (const [index, sample] of (table?.samples ?? []).entries()) {
        const { feeds, graph } = trace(sample, op.gradient.kind === 'exact', randomFrom(2, op.name, index));
        const expected = interpret(graph, feeds, { float: 'float64' });
        const program = await compileProgram(graph, { threadCount: 1 });
        try {
          const actual = await program.run(feeds);
          for (const name of graph.outputs.keys()) assertClose(actual[name], expected[name], `${describeSample(sample)}, ${name}`);
        } finally {
          await program.release();
        }
      }
    });

    if (op.inSimplerOps !== undefined) {
      it('means the same in simpler ops, and so does its gradient', () => {
        for (const [index, sample] of (table?.samples ?? []).entries()) {
          const { feeds, graph } = trace(sample, op.gradient.kind === 'exact', randomFrom(2, op.name, index));
          const expected = interpret(graph, feeds, { float: 'float64' });
          const actual = interpret(inSimplerOps(graph), feeds, { float: 'float64' });
          // In float64, but for constants such as epsilon, which are float32.
          for (const name of graph.outputs.keys()) assertClose(actual[name], expected[name], `${describeSample(sample)}, ${name}`, 1e-6);
        }
      });
    }

    it('infers the types that its reference makes', () => {
      // The interpreter checks every tensor against the inferred type.
      for (const sample of table?.samples ?? [])
        interpret(trace(sample, false, randomFrom(3)).graph, feedsOf(sample), { float: 'float32' });
    });

    if (op.gradient.kind === 'exact') {
      it('has the gradient that finite differences give', () => {
        let checked = 0;
        for (const [index, sample] of (table?.samples ?? []).entries()) {
          checked += checkDirections(trace(sample, true, randomFrom(4, op.name, index)), randomFrom(5, op.name, index));
        }
        assert.ok(checked > 0 || op.name === 'cast', `no sample of ${op.name} has a float input and float outputs`);
      });

      it('gives an input the same gradient alone as together with the others', () => {
        for (const [index, sample] of (table?.samples ?? []).entries()) {
          const { differentiated, feeds, graph } = trace(sample, true, randomFrom(6, op.name, index));
          if (differentiated.length < 2) continue;
          const together = interpret(graph, feeds, { float: 'float64' });
          for (const name of differentiated) {
            const only = { ...sample, differentiated: [Number(name.slice('input'.length))] };
            const alone = interpret(trace(only, true, randomFrom(6, op.name, index)).graph, feeds, { float: 'float64' });
            assert.deepEqual(alone[`gradient of ${name}`], together[`gradient of ${name}`]);
          }
        }
      });
    }

    for (const { inputs, build } of table?.misfits ?? []) {
      it(`refuses ${inputs.map(describeType).join(', ')} with a ShapeError that shows them`, () => {
        const values = inputs.map((type, index) => input(`input${index}`, type));
        assert.throws(
          () => build(...values),
          (error) => {
            assert.ok(error instanceof ShapeError, String(error));
            for (const { shape } of inputs) assert.ok(error.message.includes(`[${shape.join(', ')}`), error.message);
            return true;
          },
        );
      });
    }
  });
}

const feedsOf = (sample: Sample): Record<string, HostTensor> =>
  Object.fromEntries(sample.inputs.map((tensor, index) => [`input${index}`, tensor]));

/**
 * (L(x + h·d) - L(x - h·d)) / 2h against ⟨∇L, d⟩ in float64, one input at a time and two random directions d each. The error of the
 * difference is of order h² = 1e-10; constants of the rules are float32, 6e-8.
 */
const checkDirections = (traced: Traced, random: Random): number => {
  if (traced.loss === undefined) return 0;
  const lossOnly = graphOf({ loss: traced.loss });
  const lossAt = (feeds: Record<string, HostTensor>): number => numbers(interpret(lossOnly, feeds, { float: 'float64' }).loss)[0] as number;
  const exact = interpret(traced.graph, traced.feeds, { float: 'float64' });
  const step = 1e-5;
  for (const name of traced.differentiated) {
    const tensor = traced.feeds[name] as HostTensor;
    const slope = numbers(exact[`gradient of ${name}`]);
    for (let repeat = 0; repeat < 2; repeat++) {
      const direction = slope.map(() => random.normal());
      const moved = (sign: number): HostTensor => ({
        dataType: 'float64',
        shape: tensor.shape,
        data: Float64Array.from(numbers(tensor), (value, index) => value + sign * step * (direction[index] as number)),
      });
      const measured = (lossAt({ ...traced.feeds, [name]: moved(1) }) - lossAt({ ...traced.feeds, [name]: moved(-1) })) / (2 * step);
      const derived = slope.reduce((sum, value, index) => sum + value * (direction[index] as number), 0);
      const size = Math.max(1, ...slope.map(Math.abs));
      assert.ok(
        Math.abs(measured - derived) <= 1e-6 * size * Math.sqrt(slope.length || 1),
        `${describeType(tensor)} ${name}: derived ${derived}, measured ${measured}`,
      );
    }
  }
  return traced.differentiated.length;
};

describe('scatterAdd', () => {
  it('adds up repeated rows whatever the number of threads', async () => {
    // 4096 updates of 64 ones into 3 of 10 rows: every sum is a small integer, which float32 holds exactly.
    const [rows, width, count] = [10, 64, 4096];
    const indices: HostTensor = { dataType: 'int64', shape: [count], data: BigInt64Array.from({ length: count }, (_, i) => BigInt(i % 3)) };
    const updates: HostTensor = { dataType: 'float32', shape: [count, width], data: new Float32Array(count * width).fill(1) };
    const sums = scatterAdd(zeros([rows, width]), input('indices', indices), input('updates', updates));
    const program = await compileProgram(graphOf({ sums }), { threadCount: 4 });
    try {
      for (let run = 0; run < 30; run++) {
        const result = numbers((await program.run({ indices, updates })).sums);
        for (let row = 0; row < rows; row++) {
          const expected = row < 3 ? Math.ceil((count - row) / 3) : 0;
          assert.deepEqual(new Set(result.slice(row * width, (row + 1) * width)), new Set([expected]), `run ${run}, row ${row}`);
        }
      }
    } finally {
      await program.release();
    }
  });
});

describe('the table of ops', () => {
  it('has one row per name', () => {
    assert.equal(new Set(allOps.map((op) => op.name)).size, allOps.length);
  });

  it('has samples of nothing else', () => {
    assert.deepEqual(
      Object.keys(opSamples).filter((name) => !allOps.some((op) => op.name === name)),
      [],
    );
  });

  it('lets no gradient through these alone', () => {
    assert.deepEqual(
      allOps
        .filter((op) => op.gradient.kind === 'none')
        .map((op) => op.name)
        .sort(),
      [
        'argMax',
        'dequantizeRows',
        'equal',
        'greaterOrEqual',
        'integerProduct',
        'less',
        'logicalAnd',
        'logicalNot',
        'logicalOr',
        'quantizeRows',
        'sign',
      ],
    );
  });
});
