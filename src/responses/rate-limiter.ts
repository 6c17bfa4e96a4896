import type { Clock } from '../base/clock.ts';
import type { RateLimit } from '../teachers/teacher.ts';

/** How fast may be asked. */
export interface Limits {
  readonly requestsPerMinute?: number | undefined;
  readonly tokensPerMinute?: number | undefined;
}

/** Spaces requests out so that limits per minute hold in every part of a minute. */
export interface RateLimiter {
  /** Resolves when a request of about so many tokens may be sent. */
  enter(tokenCount: number, signal: AbortSignal): Promise<void>;
  /** Corrects the tokens that were assumed on entering. */
  correct(assumedTokenCount: number, tokenCount: number): void;
  /** Follows the provider's own limits where they are lower. */
  observe(limit: RateLimit): void;
  readonly limits: () => Limits;
}

/** So much of a minute's limit may come at once, so that a start or a pause does not cost a whole spacing for each request. */
const burstMs = 1000;

/** A minute and the burst before it, so that no sixty seconds hold more than a minute's limit. */
const spacedMs = 60_000 + burstMs;

/**
 * A generic cell rate algorithm (ITU-T I.371) for requests and one for tokens: each has a time until which its past requests have used it up,
 * and a request waits until that time is no more than the burst ahead.
 */
export const rateLimiter = (configured: Limits, clock: Clock): RateLimiter => {
  let limits = configured;
  let requestsUntilMs = 0;
  let tokensUntilMs = 0;
  const lower = (own: number | undefined, theirs: number | undefined): number | undefined =>
    theirs === undefined || theirs <= 0 ? own : Math.min(own ?? theirs, theirs);
  return {
    limits: () => limits,
    enter: async (tokenCount, signal) => {
      const now = clock.now();
      const requestMs = spacedMs / (limits.requestsPerMinute ?? Number.POSITIVE_INFINITY);
      const tokensMs = (spacedMs * tokenCount) / (limits.tokensPerMinute ?? Number.POSITIVE_INFINITY);
      requestsUntilMs = Math.max(requestsUntilMs, now) + requestMs;
      tokensUntilMs = Math.max(tokensUntilMs, now) + tokensMs;
      // The first request of a burst goes at once, however much it takes by itself.
      const waitMs = Math.max(requestsUntilMs - requestMs, tokensUntilMs - tokensMs) - now - burstMs;
      if (waitMs > 0) await clock.sleep(waitMs, signal);
    },
    correct: (assumedTokenCount, tokenCount) => {
      if (limits.tokensPerMinute !== undefined) tokensUntilMs += (spacedMs * (tokenCount - assumedTokenCount)) / limits.tokensPerMinute;
    },
    observe: ({ requestsPerMinute, tokensPerMinute }) => {
      limits = {
        requestsPerMinute: lower(limits.requestsPerMinute, requestsPerMinute),
        tokensPerMinute: lower(limits.tokensPerMinute, tokensPerMinute),
      };
    },
  };
};
