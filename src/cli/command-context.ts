import { printable } from './printable.ts';
import type { Progress } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  /** Results as JSON on standard output, for programs. */
  readonly json: boolean;
  /** Nothing is asked of the network. */
  readonly offline: boolean;
  /** Stack traces. */
  readonly debug: boolean;
  /** No progress. */
  readonly quiet: boolean;
}

/** What a command works with. */
export interface CommandContext {
  readonly terminal: Terminal;
  readonly options: GlobalOptions;
  readonly progress: Progress;
  /** Raised at Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Hands a command its context; what it throws ends the program. */
export type Act = <Rest extends unknown[]>(
  work: (context: CommandContext, ...rest: Rest) => Promise<void>,
) => (...rest: Rest) => Promise<void>;

/** Prints a command's result: as JSON where a program asked for it, otherwise as text, of which a part may be a model's or from data. */
export const printResult = (context: CommandContext, value: unknown, text: string): void =>
  context.terminal.writeOutput(context.options.json ? `${JSON.stringify(value, null, 2)}\n` : `${printable(text.replace(/\n$/, ''))}\n`);
