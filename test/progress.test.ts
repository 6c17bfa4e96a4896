import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createProgress, duration, progressLine } from '../src/cli/progress.ts';
import type { Terminal } from '../src/cli/terminal.ts';

/** A terminal that keeps what is written, with a clock that is set by hand. */
const fakeTerminal = (isInteractive: boolean) => {
  const written: string[] = [];
  const clock = { nowMs: 0 };
  const terminal: Terminal = {
    writeOutput: () => assert.fail('progress is no result'),
    writeMessage: (text) => written.push(text),
    isInteractive,
    columnCount: () => 60,
    nowMs: () => clock.nowMs,
    environment: {},
    workingFolder: '/',
  };
  return { terminal, written, clock };
};

/** A hundred steps of `stepMs` each. */
const hundredSteps = (isInteractive: boolean, stepMs: number, quiet = false): string[] => {
  const { terminal, written, clock } = fakeTerminal(isInteractive);
  const progress = createProgress(terminal, { quiet });
  for (let doneCount = 0; doneCount <= 100; doneCount++) {
    clock.nowMs = doneCount * stepMs;
    progress.update('collect', { doneCount, totalCount: 100 });
  }
  progress.end();
  return written;
};

describe('progress', () => {
  it('says nothing of what takes less than two seconds', () => {
    assert.deepEqual(hundredSteps(false, 19), []);
    assert.deepEqual(hundredSteps(true, 19), []);
  });

  it('is plain lines, ever rarer, where nobody looks on', () => {
    const written = hundredSteps(false, 1000);
    assert.ok(
      written.every((line) => /^collect {2}\d+\/100 {2}\d+ % {2}1\.0\/s {2}(\d:\d\d left|took 1:\d\d)\n$/.test(line)),
      written.join(''),
    );
    assert.equal(written[0], 'collect  2/100  2 %  1.0/s  1:38 left\n');
    // pauses of 5, 7.5, 11.25 … seconds: a log of 100 seconds has a handful of lines
    assert.ok(written.length >= 4 && written.length <= 8, `${written.length} lines`);
    assert.match(written.at(-1) ?? '', /100\/100 {2}100 %/);
  });

  it('rewrites one line in a terminal, and leaves the last to read', () => {
    const written = hundredSteps(true, 1000);
    const [first = '', ...rest] = written;
    assert.equal(first, 'collect  2/100  2 %  1.0/s  1:38 left');
    assert.ok(rest.every((text) => text.startsWith('\r\x1b[J')));
    assert.ok(written.slice(0, -1).every((text) => !text.includes('\n') && text.length <= '\r\x1b[J'.length + 59));
    assert.equal(written.at(-1), '\r\x1b[Jcollect  100/100  100 %  1.0/s  took 1:40\n');
  });

  it('shows several things at once, each with its own rate, and lets one end before the other', () => {
    const { terminal, written, clock } = fakeTerminal(true);
    const progress = createProgress(terminal, { quiet: false });
    for (let step = 0; step <= 8; step++) {
      clock.nowMs = 1000 * step;
      progress.update('a', { doneCount: step, totalCount: 8 });
      progress.update('b', { doneCount: 2 * step, totalCount: 20 });
    }
    const screen = (text: string | undefined): string[] => (text ?? '').replace(/^\r(\x1b\[\d+A)?\x1b\[J/, '').split('\n');
    assert.deepEqual(screen(written.at(-1)), ['a  8/8  100 %  1.0/s  took 0:08', 'b  14/20  70 %  1.8/s  0:03 left']);
    assert.match(written.at(-1) ?? '', /^\r\x1b\[1A\x1b\[J/);
    progress.end();
    assert.deepEqual(screen(written.at(-1)), ['b  16/20  80 %  2.0/s  0:02 left', '']);
    const log = fakeTerminal(false);
    const plain = createProgress(log.terminal, { quiet: false });
    for (let step = 0; step <= 8; step++) {
      log.clock.nowMs = 1000 * step;
      plain.update('a', { doneCount: step, totalCount: 8 });
      plain.update('b', { doneCount: 2 * step, totalCount: 20 });
    }
    assert.deepEqual(
      log.written.map((line) => line.slice(0, 8).trim()),
      ['a  2/8', 'b  4/20', 'a  7/8', 'b  14/20'.slice(0, 8), 'a  8/8'],
    );
  });

  it('says nothing at all when asked to be quiet', () => {
    assert.deepEqual(hundredSteps(false, 1000, true), []);
  });

  it('puts what is said above the line that is rewritten', () => {
    const { terminal, written, clock } = fakeTerminal(true);
    const progress = createProgress(terminal, { quiet: false });
    progress.update('train', { doneCount: 0, totalCount: 2 });
    clock.nowMs = 3000;
    progress.update('train', { doneCount: 1, totalCount: 2 });
    progress.say('a warning');
    assert.deepEqual(written.slice(1), ['\r\x1b[Ja warning\ntrain  1/2  50 %  3.0 s each  0:03 left']);
  });

  it('counts the rate from what was there when it began: a resumed stage does not look fast', () => {
    assert.equal(progressLine('x', { doneCount: 90, totalCount: 100 }, 80, 10_000), 'x  90/100  90 %  1.0/s  0:10 left');
  });

  it('shows tokens a second and a note', () => {
    const state = { doneCount: 5, totalCount: 10, tokenCount: 12_340, note: 'loss 1.23' };
    assert.equal(progressLine('x', state, 0, 10_000), 'x  5/10  50 %  2.0 s each  1,234 tokens/s  loss 1.23  0:10 left');
  });

  it('writes durations as clocks do', () => {
    assert.deepEqual([0, 9.4, 40, 60, 3599.6, 3723].map(duration), ['0:00', '0:09', '0:40', '1:00', '1:00:00', '1:02:03']);
  });
});
