import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { execPath } from 'node:process';
import { describe, it } from 'node:test';
import { contest } from '../bench/contest.ts';
import { type Contestant, fastest, median, pairedRatio, speedOf, table, targetLine } from '../bench/figures.ts';

const contestant = (name: string, ...speeds: readonly number[]): Contestant => ({
  name,
  measurements: speeds.map((tokensPerSecond) => ({ tokensPerSecond, peakMemoryBytes: 2e9 })),
});

describe('figures of benchmarks', () => {
  it('the median of an even count is the mean of the middle two', () => {
    assert.equal(median([4, 1, 3]), 3);
    assert.equal(median([4, 1, 3, 2]), 2.5);
  });

  it('compares within rounds: a machine that slows down for both changes no ratio', () => {
    // By round 2, 2 and 2; the ratio of the medians would be 40/100.
    assert.equal(pairedRatio(contestant('a', 200, 40, 20), contestant('b', 100, 20, 10), speedOf), 2);
    assert.equal(pairedRatio(contestant('a', 1), contestant('b'), speedOf), undefined);
    assert.equal(pairedRatio(undefined, contestant('b', 1), speedOf), undefined);
  });

  it('the fastest is so by its median, and has run', () => {
    assert.equal(fastest([contestant('a', 1, 1, 90), contestant('b', 2, 2, 2), contestant('c')])?.name, 'b');
    assert.equal(fastest([contestant('c')]), undefined);
  });

  it('one line a target', () => {
    const target = { name: 'train', measured: 1.8, bound: 'at least', value: 2 } as const;
    assert.equal(targetLine(target), 'train: measured 1.8×, target ≥ 2×, missed');
    assert.equal(targetLine({ ...target, measured: 2 }), 'train: measured 2×, target ≥ 2×, met');
    assert.equal(targetLine({ ...target, measured: 1.04, bound: 'at most', value: 1 }), 'train: measured 1.04×, target ≤ 1×, missed');
    assert.equal(targetLine({ ...target, measured: undefined }), 'train: not measured, target ≥ 2×');
    assert.equal(
      targetLine({ name: 'attention', measured: 45.3, bound: 'at most', value: 120, unit: ' s' }),
      'attention: measured 45.3 s, target ≤ 120 s, met',
    );
  });

  it('who fails drops out with the reason, the others go on', async () => {
    const order: string[] = [];
    const entry = (name: string, failsAt: number) => ({
      name,
      measure: async () => {
        order.push(name);
        if (order.filter((other) => other === name).length === failsAt) throw new Error('no compiler');
        return { tokensPerSecond: 10, peakMemoryBytes: 1e9 };
      },
    });
    const results = await contest([entry('a', 0), entry('b', 2)], 3, () => undefined);
    assert.deepEqual(order, ['a', 'b', 'a', 'b', 'a']);
    assert.deepEqual(table(results).slice(2), ['| a | 10.0 (10.0–10.0) | 1.00 |', '| b | did not run: no compiler | |']);
  });

  it('an unknown benchmark is told the nearest', () => {
    const { status, stderr } = spawnSync(execPath, ['bench/main.ts', 'trian'], { encoding: 'utf8', cwd: `${import.meta.dirname}/..` });
    assert.equal(status, 1);
    assert.match(stderr, /"trian"; did you mean train\?/);
  });
});
