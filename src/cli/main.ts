#!/usr/bin/env -S node --max-semi-space-size=16
// Node 24 lets the young generation grow to 134 MB, which a long collection fills with what it no longer needs: a third of its memory.
import { failureOf } from './failure.ts';
import { runCommandLine } from './program.ts';
import { processTerminal } from './terminal.ts';

// `retort report | head` closes the pipe when it has seen enough: that is no mistake
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const commandLine = process.argv.slice(2);
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (thrown: unknown) => {
    const { message, exitCode } = failureOf(thrown, { debug: commandLine.includes('--debug'), commandLine, isInterrupted: false });
    process.stderr.write(`${message}\n`);
    process.exit(exitCode);
  });
}

// not process.exit: it aborts while a worker is inside ONNX Runtime, and cuts off what is still being written
process.exitCode = await runCommandLine(commandLine, processTerminal());
