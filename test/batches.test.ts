import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../src/base/errors.ts';
import {
  type BatchOptions,
  type BatchState,
  epochOrder,
  firstBatch,
  nextStep,
  type RowSize,
  type StepPlan,
  stepCount,
} from '../src/text/batches.ts';

const rowsOf = (lengths: readonly number[]): RowSize[] =>
  lengths.map((tokenCount) => ({ tokenCount, weightedTokenCount: Math.ceil(tokenCount / 3) }));

const plansFrom = (rows: readonly RowSize[], options: BatchOptions, start: BatchState = firstBatch): StepPlan[] => {
  const plans: StepPlan[] = [];
  for (let next = nextStep(rows, start, options); next !== undefined; next = nextStep(rows, next.state, options)) plans.push(next.plan);
  return plans;
};

const someRows = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 40 }).map(rowsOf);
const someOptions = fc.record({
  seed: fc.integer({ min: 0, max: 1000 }),
  epochCount: fc.integer({ min: 1, max: 3 }),
  rowsPerStep: fc.integer({ min: 1, max: 12 }),
});

describe('optimiser steps', () => {
  it('use every row once an epoch, in as many steps as announced', () => {
    fc.assert(
      fc.property(someRows, someOptions, (rows, options) => {
        const plans = plansFrom(rows, options);
        assert.equal(plans.length, stepCount(rows.length, options));
        for (let epoch = 0; epoch < options.epochCount; epoch++) {
          const used = plans.filter((plan) => plan.epoch === epoch).flatMap(({ rowIndices }) => rowIndices);
          assert.deepEqual(
            used.sort((a, b) => a - b),
            [...rows.keys()],
          );
        }
      }),
    );
  });

  it('know their rows and weighted tokens', () => {
    fc.assert(
      fc.property(someRows, someOptions, (rows, options) => {
        for (const plan of plansFrom(rows, options)) {
          assert.ok(plan.rowIndices.length <= options.rowsPerStep);
          assert.equal(
            plan.weightedTokenCount,
            plan.rowIndices.map((index) => rows[index]?.weightedTokenCount ?? Number.NaN).reduce((a, b) => a + b),
          );
        }
      }),
    );
  });

  it('go on from any state as if never stopped, the state being plain data', () => {
    fc.assert(
      fc.property(someRows, someOptions, fc.nat(20), (rows, options, stop) => {
        const plans = plansFrom(rows, options);
        let state = firstBatch;
        for (let step = 0; step < Math.min(stop, plans.length); step++)
          state = nextStep(rows, JSON.parse(JSON.stringify(state)), options)?.state ?? state;
        assert.deepEqual(plansFrom(rows, options, JSON.parse(JSON.stringify(state))), plans.slice(Math.min(stop, plans.length)));
      }),
    );
  });

  it('refuse to run on nothing or with a step of no rows', () => {
    const options = { seed: 1, epochCount: 1, rowsPerStep: 4 };
    assert.throws(() => nextStep([], firstBatch, options), UserError);
    for (const wrong of [{ rowsPerStep: 0 }, { rowsPerStep: 1.5 }, { epochCount: -1 }]) {
      assert.throws(
        () => nextStep(rowsOf([3]), firstBatch, { ...options, ...wrong }),
        (error) => error instanceof UserError && error.message.includes(Object.keys(wrong)[0] ?? ''),
      );
    }
  });
});

describe('the order of an epoch', () => {
  it('differs by seed and by epoch, and is always the same for both', () => {
    assert.deepEqual(epochOrder(50, 1, 0), epochOrder(50, 1, 0));
    assert.notDeepEqual(epochOrder(50, 1, 0), epochOrder(50, 1, 1));
    assert.notDeepEqual(epochOrder(50, 1, 0), epochOrder(50, 2, 0));
    assert.notDeepEqual(epochOrder(50, 1, 0), [...Array(50).keys()]);
  });
});
