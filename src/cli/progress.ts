import { printable } from './printable.ts';
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

/** Shows what is under way, of which there may be several things at once: nothing for what takes less than two seconds. */
export interface Progress {
  /** Tells how far `name` is. It is over when all of it is done. */
  readonly update: (name: string, state: ProgressState) => void;
  /** A line of its own, above what is shown. */
  readonly say: (line: string) => void;
  /** Ends all that is shown, with its last state left to read. */
  readonly end: () => void;
}

/** Nothing is shown before this, nor at all of what takes less. */
const patienceMs = 2_000;
/** In a terminal the lines are rewritten this often; elsewhere a line is added ever more rarely, so that a log of hours stays short. */
const redrawMs = 100;
const firstPauseMs = 5_000;
const longestPauseMs = 60_000;
/** What was not heard of for this long, when something else begins, is not under way any more. */
const forgottenMs = 120_000;

interface Shown {
  readonly name: string;
  readonly startMs: number;
  /** What was done when it began: a resumed stage's rate counts only what is done now. */
  readonly startCount: number;
  state: ProgressState;
  updatedMs: number;
  /** As a line of a log: which state was written last, when, and how long the next pause is. */
  written: ProgressState | undefined;
  writtenMs: number;
  pauseMs: number;
}

export const createProgress = (terminal: Terminal, options: { readonly quiet: boolean }): Progress => {
  const shown = new Map<string, Shown>();
  const lines = terminal.isInteractive ? liveLines(terminal) : logLines(terminal);

  const finish = (one: Shown): void => {
    shown.delete(one.name);
    lines.finish(one, [...shown.values()], terminal.nowMs());
  };
  return {
    update: (name, state) => {
      if (options.quiet) return;
      const nowMs = terminal.nowMs();
      let one = shown.get(name);
      if (one === undefined) {
        for (const other of shown.values()) if (nowMs - other.updatedMs > forgottenMs) finish(other);
        one = {
          name,
          startMs: nowMs,
          startCount: state.doneCount,
          state,
          updatedMs: nowMs,
          written: undefined,
          writtenMs: nowMs,
          pauseMs: firstPauseMs,
        };
        shown.set(name, one);
      }
      one.state = state;
      one.updatedMs = nowMs;
      if (state.doneCount >= state.totalCount) finish(one);
      else if (isWorthShowing(one, nowMs)) lines.refresh(one, [...shown.values()], nowMs);
    },
    say: (line) => {
      if (!options.quiet) lines.say(printable(line), [...shown.values()], terminal.nowMs());
    },
    end: () => {
      for (const one of shown.values()) finish(one);
    },
  };
};

const isWorthShowing = (one: Shown, nowMs: number): boolean => nowMs - one.startMs >= patienceMs && one.state.doneCount > one.startCount;

/** How lines get to the terminal. `others` are what stays under way, in the order in which it began. */
interface Lines {
  readonly refresh: (one: Shown, all: readonly Shown[], nowMs: number) => void;
  readonly finish: (one: Shown, others: readonly Shown[], nowMs: number) => void;
  readonly say: (line: string, all: readonly Shown[], nowMs: number) => void;
}

/** A note may be what a server said. */
const lineOf = ({ name, state, startCount, startMs }: Shown, nowMs: number): string =>
  printable(progressLine(name, state, startCount, nowMs - startMs));

/** Where nobody looks on: lines one after another, each thing's ever more rarely. */
const logLines = (terminal: Terminal): Lines => {
  const write = (one: Shown, nowMs: number): void => {
    terminal.writeMessage(`${lineOf(one, nowMs)}\n`);
    if (one.written !== undefined) one.pauseMs = Math.min(longestPauseMs, one.pauseMs * 1.5);
    one.written = one.state;
    one.writtenMs = nowMs;
  };
  return {
    refresh: (one, _, nowMs) => {
      if (one.written === undefined || nowMs - one.writtenMs >= one.pauseMs) write(one, nowMs);
    },
    finish: (one, _, nowMs) => {
      if (isWorthShowing(one, nowMs) && one.written !== one.state) write(one, nowMs);
    },
    say: (line) => terminal.writeMessage(`${line}\n`),
  };
};

/** In a person's terminal: a line for each thing under way, rewritten in place; what is over stays above. */
const liveLines = (terminal: Terminal): Lines => {
  let height = 0;
  let drawnMs = Number.NEGATIVE_INFINITY;
  const clear = (): string => `${height === 0 ? '' : '\r'}${height > 1 ? `\x1b[${height - 1}A` : ''}${height === 0 ? '' : '\x1b[J'}`;
  const redraw = (above: string, all: readonly Shown[], nowMs: number): void => {
    // a line that wraps would be two, and the next rewriting would leave one of them
    const width = Math.max(20, terminal.columnCount() - 1);
    const visible = all.filter((one) => isWorthShowing(one, nowMs)).map((one) => lineOf(one, nowMs).slice(0, width));
    const text = `${clear()}${above}${visible.join('\n')}`;
    if (text !== '') terminal.writeMessage(text);
    height = visible.length;
    drawnMs = nowMs;
  };
  return {
    refresh: (_, all, nowMs) => {
      if (nowMs - drawnMs >= redrawMs) redraw('', all, nowMs);
    },
    finish: (one, others, nowMs) => {
      if (isWorthShowing(one, nowMs)) redraw(`${lineOf(one, nowMs)}\n`, others, nowMs);
    },
    say: (line, all, nowMs) => redraw(`${line}\n`, all, nowMs),
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
