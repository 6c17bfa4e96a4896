import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { batchSizes, lengthBucket, lossBucket } from '../src/engines/buckets.ts';
import type { TokenRow } from '../src/engines/engine.ts';
import { lossPositions, microBatches } from '../src/engines/micro-batch.ts';
import { rowsOf } from './engine-laws/suite.ts';

const length = fc.integer({ min: 1, max: 16_384 });

describe('sizes that programs are compiled for', () => {
  it('hold what they are for, and add less than 32 tokens up to 128, less than a quarter beyond', () => {
    fc.assert(
      fc.property(length, (tokens) => {
        const bucket = lengthBucket(tokens);
        assert.ok(bucket >= tokens);
        assert.ok(tokens <= 128 ? bucket - tokens < 32 : bucket < tokens * 1.25);
        assert.equal(lengthBucket(bucket), bucket, 'a bucket is its own');
      }),
    );
    assert.deepEqual([1, 32, 33, 129, 160, 161, 257, 1025].map(lengthBucket), [32, 32, 64, 160, 160, 192, 320, 1280]);
  });

  it('are few: no more than four between a length and its double', () => {
    const buckets = new Set(Array.from({ length: 1024 }, (_, index) => lengthBucket(1025 + index)));
    assert.deepEqual([...buckets], [1280, 1536, 1792, 2048]);
  });

  it('of a large model are two, in lanes of several rows, with places for the losses that there may be', () => {
    const shape = (batch: number, sequence: number, share = 0.75) => ({
      batch,
      sequence,
      lossCount: share * batch * sequence,
      packed: true,
    });
    const rows = rowsOf([250, 40, 129, 180, 64, 130], 2);
    assert.deepEqual(microBatches(rows, 485), [
      { lanes: [[0], [3, 4]], shape: shape(2, 256) },
      { lanes: [[5, 1], [2]], shape: shape(2, 256) },
    ]);
    assert.deepEqual(microBatches(rows.slice(0, 1), 485), [{ lanes: [[0]], shape: shape(1, 256) }]);
    // Others are longer: all take the lanes that these want.
    assert.deepEqual(microBatches(rows, 485, { tokenCount: 300, weightedShare: 0.8 }), [
      { lanes: [[0, 3, 4]], shape: shape(1, 512, 1) },
      { lanes: [[5, 2, 1]], shape: shape(1, 512, 1) },
    ]);
    assert.deepEqual(microBatches(rows.slice(1, 3), 485, { tokenCount: 300, weightedShare: 0.8 }), [
      { lanes: [[1, 0]], shape: shape(1, 256, 1) },
    ]);
    assert.deepEqual(microBatches(rowsOf([600, 20], 2), 485), [
      { lanes: [[0]], shape: shape(1, 768) },
      { lanes: [[1]], shape: shape(1, 256) },
    ]);
    // A small one takes rows of like lengths together, each in a lane of its own.
    assert.ok(microBatches(rows, 100_000).every(({ lanes }) => lanes.every((lane) => lane.length === 1)));
  });

  it('of a large model hold every row once, in lanes that are long enough', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 2, max: 700 }), { maxLength: 40 }), fc.integer({ min: 64, max: 1000 }), (lengths, budget) => {
        const rows = rowsOf(lengths, 1);
        const batches = microBatches(rows, budget);
        assert.deepEqual(
          batches.flatMap(({ lanes }) => lanes.flat()).sort((a, b) => a - b),
          [...lengths.keys()],
        );
        for (const { lanes, shape } of batches) {
          assert.ok(lanes.length <= shape.batch && shape.batch * shape.sequence <= 1024);
          const own = lanes.flat().reduce((sum, index) => sum + lossPositions(rows[index] as TokenRow).length, 0);
          assert.ok(own <= shape.lossCount, 'a place for every loss');
          for (const lane of lanes) assert.ok(lane.reduce((sum, index) => sum + (lengths[index] as number), 0) <= shape.sequence);
        }
        const runLength = 2 ** Math.ceil(Math.log2(Math.max(256, budget)));
        const together = batches.filter(({ shape }) => shape.batch * shape.sequence <= runLength);
        assert.ok(new Set(together.map(({ shape }) => `${shape.batch} ${shape.sequence}`)).size <= 2, 'two shapes');
      }),
    );
  });

  it('hold the tokens with a loss in quarters of the places there are', () => {
    fc.assert(
      fc.property(length, fc.nat({ max: 16_384 }), (available, count) => {
        const places = lossBucket(Math.min(count, available), available);
        assert.ok(places >= Math.min(count, available) && places >= 1 && places <= available);
        assert.ok(places === available || places % Math.ceil(available / 4) === 0);
      }),
    );
  });

  it('deal rows out whole: no run above the limit, no row left over, and less than a third of any run empty', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 0, max: 100 }), (rows, largest) => {
        const sizes = batchSizes(rows, largest);
        let rest = rows;
        for (const size of sizes) {
          assert.ok(rest > 0, 'no run without a row');
          assert.ok(size <= Math.max(1, largest));
          assert.ok(Math.max(0, size - rest) < size / 3 + 1e-9 || size <= 2);
          rest -= size;
        }
        assert.ok(rest <= 0);
      }),
    );
  });
});
