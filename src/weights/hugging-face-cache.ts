import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { HubRepository } from './hub-reference.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where Hugging Face's libraries keep models and data sets (huggingface_hub, constants.py): read by retort, never written. */
const huggingFaceCache = (environment: Environment): string => {
  const home = environment.HF_HOME ?? join(environment.XDG_CACHE_HOME ?? join(environment.HOME ?? homedir(), '.cache'), 'huggingface');
  return environment.HF_HUB_CACHE ?? environment.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub');
};

const storeOf = ({ kind, name }: HubRepository, environment: Environment): string =>
  join(huggingFaceCache(environment), `${kind}s--${name.replace('/', '--')}`);

/** The folder that holds a commit's files, if it was downloaded. */
export const huggingFaceSnapshot = (reference: HubRepository, commit: string, environment: Environment): string =>
  join(storeOf(reference, environment), 'snapshots', commit);

/** The commit that a revision was when it was last asked for by those libraries. */
export const huggingFaceCommit = async (reference: HubRepository, environment: Environment): Promise<string | undefined> => {
  const { revision } = reference;
  const text = await readFile(join(storeOf(reference, environment), 'refs', revision), 'utf8').catch(() => revision);
  return /^[0-9a-f]{40}$/.test(text.trim()) ? text.trim() : undefined;
};
