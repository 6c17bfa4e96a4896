import { HubApiError } from '@huggingface/hub';
import { messageOf, UserError } from '../base/errors.ts';
import type { HubRepository } from './hub-reference.ts';

/** Where the hub is, and how to speak to it. */
export interface HubConnection {
  /** Without a slash at its end. */
  readonly url: string;
  readonly hasToken: boolean;
  /** Carries the token to the hub's own address and to no other. */
  readonly fetch: typeof fetch;
}

export interface HubSurroundings {
  /** HF_ENDPOINT (another hub), HF_TOKEN (for private and gated models). */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Stands for HF_ENDPOINT; tests give a server of their own. */
  readonly hubUrl?: string | undefined;
  readonly fetch?: typeof fetch | undefined;
  /** Ends requests under way when it is raised. */
  readonly signal?: AbortSignal | undefined;
}

const present = (text: string | undefined): string | undefined => (text === undefined || text === '' ? undefined : text);

/** A connection whose token goes with requests to the hub's origin only: downloads are redirected to other hosts, which need none. */
export const connectToHub = ({ environment, hubUrl, fetch: givenFetch = fetch, signal }: HubSurroundings): HubConnection => {
  const text = (hubUrl ?? present(environment.HF_ENDPOINT) ?? 'https://huggingface.co').replace(/\/+$/, '');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new UserError(`HF_ENDPOINT is ${JSON.stringify(text)}, expected an address such as https://huggingface.co.`);
  }
  const isPrivate = url.protocol === 'https:' || ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  const token = present(environment.HF_TOKEN);
  if (token !== undefined && !isPrivate) {
    throw new UserError(`HF_TOKEN is set, but ${text} is not https: the token could be read on the way. Use https, or unset HF_TOKEN.`);
  }
  return {
    url: text,
    hasToken: token !== undefined,
    fetch: (input, init) => {
      const target = new URL(input instanceof Request ? input.url : input);
      const options = { ...init, ...(signal !== undefined && { signal }) };
      if (token === undefined || target.origin !== url.origin) return givenFetch(input, options);
      const headers = new Headers(init?.headers);
      headers.set('Authorization', `Bearer ${token}`);
      // On a redirect to another origin, fetch drops the header (Fetch standard, HTTP-redirect fetch, step 13).
      return givenFetch(input, { ...options, headers });
    },
  };
};

/** The hub could not be reached at all: what is in the cache may serve instead. */
export class HubUnreachableError extends UserError {
  override name = 'HubUnreachableError';
}

/** Whether another attempt may succeed: the network, an overloaded or failing server. */
export const isTransient = (error: unknown): boolean =>
  error instanceof HubApiError ? error.statusCode === 429 || error.statusCode >= 500 : !(error instanceof UserError || isBug(error));

/** A mistake in a program, not on the way to the hub. fetch's own errors are TypeErrors too, but they have a cause. */
const isBug = (error: unknown): boolean =>
  error instanceof ReferenceError || error instanceof RangeError || (error instanceof TypeError && error.cause === undefined);

/** What went wrong between us and the hub, in words that say what to do; a bug is handed back as it came. */
export const hubFailure = (error: unknown, { kind, name, revision }: HubRepository, connection: HubConnection): unknown => {
  const text = `${name}${revision === 'main' ? '' : `@${revision}`}`;
  const page = `${connection.url}/${kind === 'dataset' ? 'datasets/' : ''}${name}`;
  const noun = kind === 'dataset' ? 'data set' : 'model';
  if (error instanceof UserError || isBug(error)) return error;
  if (!(error instanceof HubApiError)) {
    return new HubUnreachableError(
      `Cannot reach ${connection.url} for the ${noun} ${text}: ${reasonOf(error)}. ` +
        `Without network, give the folder of a ${noun} that is on this machine.`,
      { cause: error },
    );
  }
  const failure = (message: string) => new UserError(message, { cause: error });
  switch (error.statusCode) {
    case 401:
      return failure(
        connection.hasToken
          ? `${connection.url} does not accept HF_TOKEN for the ${noun} ${text}. Is the token still valid, and may it read ${page}?`
          : `There is no public ${noun} ${text} on ${connection.url}: no such name, or it is private or gated. ` +
              `Check the spelling at ${page}; for a private or gated ${noun} set HF_TOKEN.`,
      );
    case 403:
      return failure(
        `Access to ${text} is gated. Accept its conditions at ${page}${connection.hasToken ? ' with the account of HF_TOKEN' : ', then set HF_TOKEN'}.`,
      );
    case 404:
      return failure(
        `${connection.url} has no ${noun} ${name}, or no revision ${revision} of it. Check both at ${page}. ` +
          `If a folder was meant: there is none called ${text}.`,
      );
    default:
      return failure(`${connection.url} answered ${error.statusCode} for the ${noun} ${text}: ${error.message}`);
  }
};

/** `fetch failed` says nothing; its cause does. */
const reasonOf = (error: unknown): string =>
  error instanceof Error && error.cause instanceof Error ? `${error.message} (${messageOf(error.cause)})` : messageOf(error);
