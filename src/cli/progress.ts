import type { Terminal } from './terminal.ts';

/** How far something is. */
export interface ProgressState {
  readonly doneCount: number;
  readonly totalCount: number;
  /** Shown as tokens per second where it is known. */
  readonly tokenCount?: number;
  /** A word or two: the loss, how many answers failed. */
  readonly note?: string;
}

/** Shows what is under way: nothing for what takes less than two seconds. */
export interface Progress {
  /** Tells how far `name` is. Another name than before ends what was shown. */
  readonly update: (name: string, state: ProgressState) => void;
  /** A line of its own, above what is shown. */
  readonly say: (line: string) => void;
  /** Ends what is shown, with its last state left to read. */
  readonly end: () => void;
}

/** Nothing is shown before this, nor at all of what takes less. */
const patienceMs = 2_000;
/** In a terminal the line is rewritten this often; elsewhere a line is added ever more rarely, so that a log of hours stays short. */
const redrawMs = 100;
const firstLineMs = 5_000;
const longestPauseMs = 60_000;

interface Shown {
  readonly name: string;
  readonly startMs: number;
  /** What was done when it began: a resumed stage's rate counts only what is done now. */
  readonly startCount: number;
  state: ProgressState;
  drawn: ProgressState | undefined;
  lastMs: number;
  pauseMs: number;
  isVisible: boolean;
}

export const createProgress = (terminal: Terminal, options: { readonly quiet: boolean }): Progress => {
  let shown: Shown | undefined;

  const draw = (at: Shown, nowMs: number): void => {
    const line = progressLine(at.name, at.state, at.startCount, nowMs - at.startMs);
    if (terminal.isInteractive) terminal.writeMessage(`\r\x1b[K${line.slice(0, Math.max(20, terminal.columnCount() - 1))}`);
    else terminal.writeMessage(`${line}\n`);
    at.isVisible = true;
    at.drawn = at.state;
    at.lastMs = nowMs;
  };
  const end = (): void => {
    if (shown?.isVisible === true) {
      if (terminal.isInteractive || shown.drawn !== shown.state) draw(shown, terminal.nowMs());
      if (terminal.isInteractive) terminal.writeMessage('\n');
    }
    shown = undefined;
  };
  return {
    update: (name, state) => {
      if (options.quiet) return;
      const nowMs = terminal.nowMs();
      if (shown?.name !== name) {
        end();
        shown = {
          name,
          startMs: nowMs,
          startCount: state.doneCount,
          state,
          drawn: undefined,
          lastMs: nowMs,
          pauseMs: firstLineMs,
          isVisible: false,
        };
        return;
      }
      shown.state = state;
      if (nowMs - shown.startMs < patienceMs || state.doneCount === shown.startCount) return;
      const pauseMs = terminal.isInteractive ? redrawMs : shown.pauseMs;
      if (shown.isVisible && nowMs - shown.lastMs < pauseMs) return;
      if (shown.isVisible) shown.pauseMs = Math.min(longestPauseMs, shown.pauseMs * 1.5);
      draw(shown, nowMs);
    },
    say: (line) => {
      if (options.quiet) return;
      const isLineOpen = terminal.isInteractive && shown?.isVisible === true;
      terminal.writeMessage(`${isLineOpen ? '\r\x1b[K' : ''}${line}\n`);
      if (isLineOpen && shown !== undefined) draw(shown, terminal.nowMs());
    },
    end,
  };
};

/** `collect teacher  128/256  50 %  3.2/s  0:40 left`. */
export const progressLine = (name: string, state: ProgressState, startCount: number, elapsedMs: number): string => {
  const { doneCount, totalCount, tokenCount, note } = state;
  const seconds = Math.max(elapsedMs, 1) / 1000;
  const perSecond = (doneCount - startCount) / seconds;
  const parts = [name, `${doneCount}/${totalCount}`, `${totalCount === 0 ? 100 : Math.floor((100 * doneCount) / totalCount)} %`];
  if (perSecond > 0) parts.push(rate(perSecond, ''));
  if (tokenCount !== undefined && tokenCount > 0) parts.push(rate(tokenCount / seconds, ' tokens'));
  if (note !== undefined) parts.push(note);
  if (doneCount >= totalCount) parts.push(`took ${duration(seconds)}`);
  else if (perSecond > 0) parts.push(`${duration((totalCount - doneCount) / perSecond)} left`);
  return parts.join('  ');
};

/** Below one a second the time that one takes says more. */
const rate = (perSecond: number, unit: string): string =>
  perSecond >= 1 || unit !== ''
    ? `${perSecond >= 10 ? Math.round(perSecond).toLocaleString('en-US') : perSecond.toFixed(1)}${unit}/s`
    : `${(1 / perSecond).toFixed(1)} s each`;

/** `0:40`, `1:02:03`. */
export const duration = (seconds: number): string => {
  const whole = Math.round(seconds);
  const clock = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, '0'));
  const hours = Math.floor(whole / 3600);
  return hours > 0 ? `${hours}:${clock.join(':')}` : `${Number(clock[0])}:${clock[1]}`;
};
