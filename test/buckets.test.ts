import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { batchSizes, coarseLengthBucket, lengthBucket, lossBucket } from '../src/engines/buckets.ts';
import { microBatches } from '../src/engines/micro-batch.ts';
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

  it('are two between a length and its double for large models, and add less than a half', () => {
    fc.assert(
      fc.property(length, (tokens) => {
        const bucket = coarseLengthBucket(tokens);
        assert.ok(bucket >= tokens && (tokens <= 64 ? bucket === 64 : bucket < tokens * 1.5));
        assert.equal(coarseLengthBucket(bucket), bucket, 'a bucket is its own');
      }),
    );
    assert.deepEqual([...new Set(Array.from({ length: 1024 }, (_, index) => coarseLengthBucket(1025 + index)))], [1536, 2048]);
  });

  it('of a large model are those of single rows, with a place for the loss of every token', () => {
    const rows = rowsOf([250, 40, 129, 180, 64, 130], 2);
    assert.deepEqual(microBatches(rows, 485), [
      { rowIndices: [1], shape: { batch: 1, sequence: 64, lossCount: 64 } },
      { rowIndices: [4], shape: { batch: 1, sequence: 64, lossCount: 64 } },
      { rowIndices: [2], shape: { batch: 1, sequence: 192, lossCount: 192 } },
      { rowIndices: [3], shape: { batch: 1, sequence: 192, lossCount: 192 } },
      { rowIndices: [5], shape: { batch: 1, sequence: 192, lossCount: 192 } },
      { rowIndices: [0], shape: { batch: 1, sequence: 256, lossCount: 256 } },
    ]);
    // A small one takes them together.
    assert.ok(microBatches(rows, 100_000).length < rows.length);
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
