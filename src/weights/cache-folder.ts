import { homedir } from 'node:os';
import { join } from 'node:path';

/** What decides where the cache lies; the defaults are this process's. */
export interface CacheSurroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly platform: string;
  readonly home: string;
}

/** The folder for what can be made or fetched again: `RETORT_CACHE`, or `retort` in the platform's cache folder. */
export const defaultCacheFolder = ({ environment, platform, home }: CacheSurroundings = thisProcess()): string => {
  if (environment.RETORT_CACHE !== undefined && environment.RETORT_CACHE !== '') return environment.RETORT_CACHE;
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'retort');
  if (platform === 'win32') return join(environment.LOCALAPPDATA ?? join(home, 'AppData', 'Local'), 'retort', 'cache');
  // The XDG Base Directory Specification ignores relative paths.
  const xdg = environment.XDG_CACHE_HOME;
  return join(xdg?.startsWith('/') ? xdg : join(home, '.cache'), 'retort');
};

// biome-ignore lint/style/noProcessEnv: the default of an argument; who wants another environment gives one
const thisProcess = (): CacheSurroundings => ({ environment: process.env, platform: process.platform, home: homedir() });
