/** The time that one request may take. Whoever starts it ends it. */
export interface Deadline {
  /** Raised when the time is over, or with the signal that it was started with. */
  readonly signal: AbortSignal;
  readonly isOver: () => boolean;
  end(): void;
}

/**
 * What AbortSignal.any([signal, AbortSignal.timeout(…)]) would be, but that nothing of it is left when the request has ended: those live as long
 * as the timeout and the collection's own signal, and ten thousand of them were a quarter of the collector's time and most of its memory.
 */
export const startDeadline = (durationMs: number, signal: AbortSignal | undefined): Deadline => {
  const controller = new AbortController();
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    controller.abort(new Error('the time is over'));
  }, durationMs);
  const onAbort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted === true) onAbort();
  signal?.addEventListener('abort', onAbort);
  return {
    signal: controller.signal,
    isOver: () => isOver,
    end: () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    },
  };
};
