import { Command } from 'commander';
import { packageVersion } from '../run-folder/versions.ts';
import type { Act, GlobalOptions } from './command-context.ts';
import { commandTable } from './command-table.ts';
import { failureOf } from './failure.ts';
import { listenForInterrupts } from './interrupt.ts';
import { printable } from './printable.ts';
import { createProgress } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** Runs one command line to its end and returns the exit code: 0, 1 for the user's mistakes, 2 for ours, 130 after Ctrl-C. */
export const runCommandLine = async (commandLine: readonly string[], terminal: Terminal): Promise<number> => {
  const program = new Command('retort')
    .description('Distils a large language model into a small one: prime a teacher, collect its answers, fine-tune a student, measure it.')
    .version(packageVersion(), '--version')
    .option('--json', 'results as JSON on standard output')
    .option('--offline', 'ask nothing of the network')
    .option('--quiet', 'no progress')
    .option('--debug', 'stack traces')
    .exitOverride()
    .configureOutput({ writeOut: terminal.writeOutput, writeErr: terminal.writeMessage });
  let isInterrupted = false;
  const act: Act =
    (work) =>
    async (...rest) => {
      const given = program.opts<Partial<GlobalOptions>>();
      const { json = false, offline = false, debug = false, quiet = false } = given;
      const options: GlobalOptions = { json, offline, debug, quiet };
      const progress = createProgress(terminal, options);
      const interrupts = listenForInterrupts(() =>
        progress.say('Stopping as soon as what is under way is done and saved. Again Ctrl-C: at once.'),
      );
      try {
        await work({ terminal, options, progress, signal: interrupts.signal }, ...rest);
      } finally {
        isInterrupted = interrupts.signal.aborted;
        progress.end();
        interrupts.release();
      }
    };
  for (const name of neededCommands(commandLine)) (await commandTable[name]?.())?.(program, act);
  try {
    await program.parseAsync([...commandLine], { from: 'user' });
    return 0;
  } catch (thrown) {
    const failure = failureOf(thrown, { debug: commandLine.includes('--debug'), commandLine, isInterrupted });
    if (failure.message !== '') terminal.writeMessage(`${printable(failure.message)}\n`);
    return failure.exitCode;
  }
};

/** The command that is asked for; all of them where none is, for the help text and for the nearest name of a misspelt one. */
const neededCommands = (commandLine: readonly string[]): readonly string[] => {
  if (commandLine[0] === '--version') return [];
  const word = commandLine.find((argument) => !argument.startsWith('-'));
  return word !== undefined && Object.hasOwn(commandTable, word) ? [word] : Object.keys(commandTable);
};
