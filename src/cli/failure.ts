import { CommanderError } from 'commander';
import { messageOf, UserError } from '../base/errors.ts';
import { hasCode } from '../base/folders.ts';
import { InterruptError, interruptExitCode } from './interrupt.ts';

/** How a command ended that did not do what it was to do. */
export interface Failure {
  /** 1: the user's mistake; 2: ours; 130: Ctrl-C. */
  readonly exitCode: number;
  /** For standard error; '' where all was said already. */
  readonly message: string;
}

export interface FailureOptions {
  readonly debug: boolean;
  readonly commandLine: readonly string[];
  /** Ctrl-C was pressed: that work ends early is its consequence. */
  readonly isInterrupted: boolean;
}

/** What to say of something thrown, and with what code to end. A stack trace is shown only with `--debug`. */
export const failureOf = (thrown: unknown, options: FailureOptions): Failure => {
  const trace = options.debug && thrown instanceof Error ? `\n${traceOf(thrown)}` : '';
  if (thrown instanceof CommanderError) return { exitCode: thrown.exitCode === 0 ? 0 : 1, message: '' };
  const isEnd = thrown instanceof UserError || (thrown instanceof Error && thrown.name === 'AbortError');
  if (options.isInterrupted && isEnd) {
    // a stage may say more than that it was stopped: how many answers there are
    const details = thrown instanceof InterruptError || !(thrown instanceof UserError) ? '' : `${thrown.message}\n`;
    const goOn = ['retort', ...options.commandLine].map(quoted).join(' ');
    return { exitCode: interruptExitCode, message: `${details}Stopped; what was done is kept. To go on: ${goOn}${trace}` };
  }
  if (thrown instanceof UserError) return { exitCode: 1, message: `${thrown.message}${trace}` };
  if (isCircumstance(thrown)) return { exitCode: 1, message: `The system refused: ${messageOf(thrown)}${trace}` };
  const next = options.debug ? 'Please report it with the trace below.' : 'Run the same command with --debug for a trace to report.';
  return { exitCode: 2, message: `${asInternal(messageOf(thrown))}\nThis is a mistake of retort's own. ${next}${trace}` };
};

/** What neither the user's files nor our code is to blame for: a full disk, a refused permission, too many open files. */
const isCircumstance = (thrown: unknown): boolean =>
  hasCode(thrown, 'ENOSPC', 'EDQUOT', 'EFBIG', 'EACCES', 'EPERM', 'EROFS', 'EMFILE', 'ENFILE', 'ENOMEM');

/** An argument as it can be typed again. */
const quoted = (argument: string): string => (/^[\w./:=@,+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`);

const asInternal = (message: string): string => (message.startsWith('internal:') ? message : `internal: ${message}`);

const traceOf = (error: Error): string => {
  const cause = error.cause instanceof Error ? `\ncaused by ${traceOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
};
