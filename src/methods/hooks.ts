import { pathToFileURL } from 'node:url';
import { messageOf, UserError } from '../base/errors.ts';
import { sha256OfFile } from '../base/folders.ts';
import type { RunConfig } from '../config/run-config.ts';

/** A function of the user's, from a module that a config names, with a hash of the module's file: what it does decides results. */
export interface Hook<Call> {
  readonly call: Call;
  readonly hash: string;
}

/** Loads a module's function: its default export, or the one of a name. Loading runs the module. */
const loadFunction = async (file: string, name: string, where: string): Promise<Hook<(...given: unknown[]) => unknown>> => {
  const refuse = (reason: string, cause?: unknown): never => {
    throw new UserError(`${where}: ${file} ${reason}`, { cause });
  };
  const hash = await sha256OfFile(file).catch((thrown: unknown) => refuse(`cannot be read: ${messageOf(thrown)}`, thrown));
  // With the hash, so that a module that was changed is loaded anew.
  const loaded: Readonly<Record<string, unknown>> = await import(`${pathToFileURL(file).href}?sha256=${hash}`).catch((thrown: unknown) =>
    refuse(`cannot be loaded: ${messageOf(thrown)}`, thrown),
  );
  const found = loaded['default'] ?? loaded[name];
  if (typeof found !== 'function')
    return refuse(`exports no function as default or as \`${name}\`, but ${Object.keys(loaded).join(', ') || 'nothing'}.`);
  return { call: (...given) => found(...given), hash };
};

export type RedactHook = Hook<(text: string) => string>;

/** What sees every text before it is sent to a teacher, if the config names it. */
export const redactHookOf = async ({ collection }: Pick<RunConfig, 'collection'>): Promise<RedactHook | undefined> => {
  const { redact: file } = collection;
  if (file === undefined) return undefined;
  const where = 'collection.redact';
  const { call, hash } = await loadFunction(file, 'redact', where);
  return {
    hash,
    call: (text) => {
      const sent = callOf(() => call(text), where, file);
      if (typeof sent === 'string') return sent;
      const came = sent instanceof Promise ? 'a promise: the function must answer at once' : typeof sent;
      throw new UserError(`${where}: expected the function of ${file} to give back a text; came ${came}. Nothing was sent.`);
    },
  };
};

const callOf = (call: () => unknown, where: string, file: string): unknown => {
  try {
    return call();
  } catch (thrown) {
    throw new UserError(`${where}: the function of ${file} failed: ${messageOf(thrown)}. Nothing was sent.`, { cause: thrown });
  }
};

/** A function that verifies answers. */
export const verifyHookOf = (file: string): Promise<Hook<(...given: unknown[]) => unknown>> =>
  loadFunction(file, 'verify', 'collection.verify.module');
