import { UserError } from '../base/errors.ts';

/** The user pressed Ctrl-C, or the system asked the process to end. */
export class InterruptError extends UserError {
  override name = 'InterruptError';
}

/** The shell's number for a process that was ended by Ctrl-C. */
export const interruptExitCode = 130;

export interface Interrupts {
  /** Raised with an InterruptError at the first Ctrl-C. */
  readonly signal: AbortSignal;
  /** Gives Ctrl-C its usual meaning back. */
  readonly release: () => void;
}

const signals = ['SIGINT', 'SIGTERM'] as const;

/**
 * At the first Ctrl-C the signal is raised and the work ends at its next safe point; at the second the process ends at once. It then ends
 * by the signal itself, not by `process.exit`, which aborts (exit 134) while a worker is inside ONNX Runtime.
 */
export const listenForInterrupts = (onFirst: () => void): Interrupts => {
  const controller = new AbortController();
  const release = (): void => {
    for (const name of signals) process.removeListener(name, handle);
  };
  const handle = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) {
      release();
      process.kill(process.pid, name);
      return;
    }
    onFirst();
    controller.abort(new InterruptError('Stopped.'));
  };
  for (const name of signals) process.on(name, handle);
  return { signal: controller.signal, release };
};
