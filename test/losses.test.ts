import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradient } from '../src/autodiff/gradient.ts';
import { InternalError } from '../src/base/errors.ts';
import { randomFrom } from '../src/base/random.ts';
import type { LossSpecification } from '../src/engines/engine.ts';
import { lossValues } from '../src/engines/losses.ts';
import { graphOf } from '../src/graph/graph.ts';
import { float32, type HostTensor } from '../src/graph/tensor-type.ts';
import { input, type Value } from '../src/graph/value.ts';
import { forwardKl } from '../src/losses/forward-kl.ts';
import { reduceSum } from '../src/ops/reduce.ts';
import { interpret } from '../src/runtime/interpreter.ts';
import { assertClose } from './golden/compare.ts';
import golden from './golden/distillation-loss.json' with { type: 'json' };

interface Batch {
  readonly student: readonly number[];
  readonly teacher: readonly number[];
  readonly targets: readonly number[];
  readonly weights: readonly number[];
  readonly vocabularySize: number;
}

const host = (shape: readonly number[], values: readonly number[]): HostTensor => ({
  dataType: 'float32',
  shape,
  data: Float32Array.from(values),
});

/** A loss of a batch by the interpreter in float64: each token's share and terms, and the gradient of their sum by the student's logits. */
const computed = (specification: LossSpecification, { student, teacher, targets, weights, vocabularySize }: Batch) => {
  const tokenCount = targets.length;
  const shape = [tokenCount, vocabularySize] as const;
  const logits = input('student', float32(...shape));
  const inputs = {
    logits,
    targets: input('targets', { dataType: 'int64', shape: [tokenCount] }),
    weights: input('weights', float32(tokenCount)),
    teacherLogits: input('teacher', float32(...shape)),
  };
  const { total, terms } = lossValues(inputs, specification);
  const [slope] = gradient(reduceSum(total, [0]), [logits]);
  const feeds: Record<string, HostTensor> = {
    student: host(shape, student),
    teacher: host(shape, teacher),
    weights: host([tokenCount], weights),
    targets: { dataType: 'int64', shape: [tokenCount], data: BigInt64Array.from(targets, BigInt) },
  };
  const outputs: Record<string, Value> = { total, slope: slope as Value, ...terms };
  const graph = graphOf(outputs);
  const used = Object.fromEntries(Object.entries(feeds).filter(([name]) => graph.inputs.has(name)));
  const results = interpret(graph, used, { float: 'float64' });
  const numbers = (name: string): number[] => Array.from(results[name]?.data ?? assert.fail(`no ${name}`), Number);
  return {
    total: numbers('total'),
    slope: numbers('slope'),
    terms: Object.fromEntries(Object.keys(terms).map((name) => [name, numbers(name)])),
  };
};

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

const goldenBatch = (): Batch => {
  const [tokenCount = 0, vocabularySize = 0] = golden.logits.shape;
  const { studentLogits: student, teacherLogits: teacher, targets } = golden.logits;
  return { student, teacher, targets, weights: Array.from({ length: tokenCount }, () => 1), vocabularySize };
};

const randomBatch = (seed: number, tokenCount: number): Batch => {
  const random = randomFrom(seed, 'losses');
  const vocabularySize = 7;
  const normals = () => Array.from({ length: tokenCount * vocabularySize }, () => Math.fround(3 * random.normal()));
  return {
    student: normals(),
    teacher: normals(),
    targets: Array.from({ length: tokenCount }, () => random.integer(vocabularySize)),
    weights: Array.from({ length: tokenCount }, (_, token) => [1, 0, 0.5, 2][token % 4] as number),
    vocabularySize,
  };
};

const specifications: readonly LossSpecification[] = [
  { name: 'cross-entropy' },
  { name: 'distillation', alpha: 0.3, temperature: 2.5 },
  { name: 'distillation', alpha: 0, temperature: 1 },
];

describe('the distillation loss equals its definition in PyTorch (float64)', () => {
  for (const expected of golden.logits.cases) {
    it(`α ${expected.alpha}, T ${expected.temperature}`, () => {
      const { total, terms, slope } = computed(
        { name: 'distillation', alpha: expected.alpha, temperature: expected.temperature },
        goldenBatch(),
      );
      // α and T are float32 constants of the graph, all else is float64: seven digits.
      assertClose([sumOf(total) / expected.sum], [1], 1e-7, 'sum, relative');
      assertClose([sumOf(terms['cross-entropy'] ?? []) / expected.crossEntropySum], [1], 1e-9, 'cross-entropy, relative');
      assertClose([sumOf(terms['forward-kl'] ?? []) / expected.klSum], [1], 1e-7, 'KL, relative');
      assertClose(slope, expected.gradientOfSum, 1e-5, 'gradient'); // up to T² = 35 times a probability
    });
  }
});

describe('forward KL', () => {
  const klOf = (student: readonly number[], teacher: readonly number[], temperature: number): number => {
    const shape = [1, student.length] as const;
    const value = forwardKl(input('student', float32(...shape)), input('teacher', float32(...shape)), temperature);
    const results = interpret(graphOf({ value }), { student: host(shape, student), teacher: host(shape, teacher) }, { float: 'float64' });
    return Number(results.value?.data[0]);
  };

  it('is KL(teacher ‖ student), not the other way round', () => {
    // By hand: ¾·ln(¾/½) + ¼·ln(¼/½) = 0.130812; the other way ½·ln(½/¾) + ½·ln(½/¼) = 0.143841.
    assertClose([klOf([0, 0], [Math.log(3), 0], 1)], [0.130812], 1e-6, 'teacher (¾, ¼), student (½, ½)');
    assertClose([klOf([Math.log(3), 0], [0, 0], 1)], [0.143841], 1e-6, 'teacher (½, ½), student (¾, ¼)');
  });

  it('divides both logits by the temperature', () => {
    assertClose([klOf([0, 0], [2 * Math.log(3), 0], 2)], [0.130812], 1e-6, 'T = 2');
  });

  it('is zero where student and teacher agree, whatever constant is added to the logits', () => {
    assertClose([klOf([1, -2, 0.5], [4, 1, 3.5], 1.7)], [0], 1e-12, 'shifted by 3');
  });
});

for (const specification of specifications) {
  describe(`laws: ${JSON.stringify(specification)}`, () => {
    it('does not depend on how the batch is split', () => {
      const whole = randomBatch(1, 8);
      const part = (from: number, to: number): Batch => ({
        ...whole,
        student: whole.student.slice(from * 7, to * 7),
        teacher: whole.teacher.slice(from * 7, to * 7),
        targets: whole.targets.slice(from, to),
        weights: whole.weights.slice(from, to),
      });
      const [all, left, right] = [computed(specification, whole), computed(specification, part(0, 3)), computed(specification, part(3, 8))];
      assertClose([sumOf(left.total) + sumOf(right.total)], [sumOf(all.total)], 1e-12, 'sum');
      assertClose([...left.slope, ...right.slope], all.slope, 1e-12, 'gradient');
    });

    it('reads no logits where the weight is 0', () => {
      const batch = randomBatch(2, 8);
      const changed = {
        ...batch,
        student: batch.student.map((value, index) => (batch.weights[Math.floor(index / 7)] === 0 ? -value : value)),
      };
      const [first, second] = [computed(specification, batch), computed(specification, changed)];
      assert.deepEqual(second.total, first.total);
      first.slope.forEach((value, index) => {
        if (batch.weights[Math.floor(index / 7)] === 0) assert.equal(Math.abs(value), 0);
      });
    });

    it('is weighted token by token, in its terms too', () => {
      const batch = randomBatch(3, 4);
      const even = computed(specification, { ...batch, weights: [1, 1, 1, 1] });
      const weighted = computed(specification, batch);
      assertClose(
        weighted.total,
        even.total.map((value, token) => value * (batch.weights[token] ?? 0)),
        1e-12,
        'total',
      );
      for (const [name, term] of Object.entries(weighted.terms)) {
        assertClose(
          term,
          (even.terms[name] ?? []).map((value, token) => value * (batch.weights[token] ?? 0)),
          1e-12,
          name,
        );
      }
    });

    it('has the gradient that finite differences give', () => {
      // Logits and steps are multiples of 2^-9, so that float32, in which logits are given, holds them exactly.
      const step = 2 ** -9;
      const random = randomBatch(4, 4);
      const batch = { ...random, student: random.student.map((value) => Math.round(value / step) * step) };
      const lossAt = (index: number, change: number) =>
        sumOf(computed(specification, { ...batch, student: batch.student.with(index, (batch.student[index] ?? 0) + change) }).total);
      const measured = batch.student.map((_, index) => (lossAt(index, step) - lossAt(index, -step)) / (2 * step));
      // The error of a central difference is a sixth of the third derivative times step²: here below 1e-5.
      assertClose(measured, computed(specification, batch).slope, 1e-5, 'gradient');
    });

    it('is finite for logits far apart', () => {
      const batch = randomBatch(5, 4);
      const far = { ...batch, student: batch.student.map((value) => 1e4 * value), teacher: batch.teacher.map((value) => -1e4 * value) };
      const { total, slope } = computed(specification, far);
      assert.ok([...total, ...slope].every(Number.isFinite));
    });
  });
}

it('the distillation loss without teacher logits is a bug of ours', () => {
  const inputs = {
    logits: input('s', float32(1, 3)),
    targets: input('t', { dataType: 'int64', shape: [1] }),
    weights: input('w', float32(1)),
  };
  assert.throws(() => lossValues(inputs, { name: 'distillation', alpha: 0.5, temperature: 1 }), InternalError);
});
