/** Where the command line writes and what it knows of its surroundings. An argument, so that tests need no process. */
export interface Terminal {
  /** Results: what a program would read. */
  readonly writeOutput: (text: string) => void;
  /** Progress, warnings and errors. */
  readonly writeMessage: (text: string) => void;
  /** Whether messages go to a person's terminal: then a line may be written over. */
  readonly isInteractive: boolean;
  /** Characters in a line of that terminal; of a file that is written instead, what is easily read. */
  readonly columnCount: () => number;
  /** Milliseconds; only differences count. */
  readonly nowMs: () => number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingFolder: string;
}

/** This process's terminal. */
export const processTerminal = (): Terminal => ({
  writeOutput: (text) => void process.stdout.write(text),
  writeMessage: (text) => void process.stderr.write(text),
  isInteractive: process.stderr.isTTY === true && process.env.TERM !== 'dumb',
  columnCount: () => process.stderr.columns ?? 120,
  nowMs: () => performance.now(),
  environment: process.env,
  workingFolder: process.cwd(),
});
