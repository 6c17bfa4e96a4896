import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InternalError, UserError } from '../src/base/errors.ts';
import { failureOf } from '../src/cli/failure.ts';
import { InterruptError } from '../src/cli/interrupt.ts';
import { printable } from '../src/cli/printable.ts';

const plain = { debug: false, commandLine: ['run', 'my run.yaml'], isInterrupted: false };
const systemError = (code: string): Error => Object.assign(new Error(`${code}: no`), { code });

describe('what is said of an error, and with what code the command ends', () => {
  it('1 for the user’s mistakes: the message alone', () => {
    assert.deepEqual(failureOf(new UserError('No file at x.'), plain), { exitCode: 1, message: 'No file at x.' });
  });

  it('1 for what the system refuses: a full disk is nobody’s bug', () => {
    for (const code of ['ENOSPC', 'EACCES', 'EMFILE']) assert.equal(failureOf(systemError(code), plain).exitCode, 1, code);
  });

  it('2 for ours: it begins with "internal:" and says how to report it', () => {
    for (const thrown of [new InternalError('a shape'), new TypeError('x is undefined'), 'a thrown text']) {
      const { exitCode, message } = failureOf(thrown, plain);
      assert.equal(exitCode, 2);
      assert.match(message, /^internal: .*\nThis is a mistake of retort's own\. Run the same command with --debug/);
      assert.doesNotMatch(message, /\n\s+at /);
    }
  });

  it('shows where it came from, and what caused it, with --debug', () => {
    const { message } = failureOf(new InternalError('outer', { cause: new Error('inner') }), { ...plain, debug: true });
    assert.match(message, /InternalError: internal: outer\n\s+at [^]*caused by Error: inner\n\s+at /);
  });

  it('130 after Ctrl-C, with the command that goes on', () => {
    const interrupted = { ...plain, isInterrupted: true };
    assert.deepEqual(failureOf(new InterruptError('Stopped.'), interrupted), {
      exitCode: 130,
      message: "Stopped; what was done is kept. To go on: retort run 'my run.yaml'",
    });
    assert.match(failureOf(new UserError('3 of 9 answers are kept.'), interrupted).message, /^3 of 9 answers are kept\.\nStopped;/);
    assert.equal(failureOf(new InternalError('a bug on the way out'), interrupted).exitCode, 2);
  });
});

describe('a model’s text in a terminal', () => {
  it('cannot move the cursor, and keeps its lines, tabs and letters', () => {
    assert.equal(printable('a\u001b[2Jb\r\u0007\u009bc\n\td é 漢'), 'a\\x1b[2Jb\\x0d\\x07\\x9bc\n\td é 漢');
  });
});
