import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { graphOf } from '../src/graph/graph.ts';
import { peakBytes } from '../src/graph/peak-bytes.ts';
import { float32 } from '../src/graph/tensor-type.ts';
import { input } from '../src/graph/value.ts';
import { add, exp, neg } from '../src/ops/elementwise.ts';
import { reshape } from '../src/ops/shape.ts';

// Counted by hand: a float32 [10] is 40 bytes.
describe('the memory of a graph', () => {
  const x = input('x', float32(10));

  it('frees each result after its last use: a chain holds two at once', () => {
    assert.equal(peakBytes(graphOf({ y: neg(exp(neg(exp(x)))) })), 80);
  });

  it('keeps what is used later, and what is put out', () => {
    const kept = exp(x);
    assert.equal(peakBytes(graphOf({ y: add(neg(exp(neg(x))), kept) })), 120);
    assert.equal(peakBytes(graphOf({ first: exp(x), second: neg(x), third: exp(neg(x)) })), 4 * 40);
  });

  it('counts neither inputs nor views', () => {
    assert.equal(peakBytes(graphOf({ y: reshape(x, [5, 2]) })), 0);
    assert.equal(peakBytes(graphOf({ y: x })), 0);
  });
});
