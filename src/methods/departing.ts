import { departures } from '../config/departures.ts';
import type { RunConfig } from '../config/run-config.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import type { ModelTextOptions } from '../text/model-text.ts';
import type { Surroundings } from './surroundings.ts';

/** Whether settings are chosen by the very questions that students are measured on. */
export const isChosenOnTest = ({ departures: given = [] }: RunConfig): boolean => given.includes('chosen-on-test');

/** How chats of this run become text, for student and local teacher alike. */
export const textOptionsOf = ({ departures: given = [] }: RunConfig): ModelTextOptions => ({ isRaw: given.includes('raw-text') });

/** Whether students learn to end their answers. */
export const learnsEnd = ({ departures: given = [] }: RunConfig): boolean => !given.includes('no-end-of-turn');

/** What the run does against a sound protocol is told at once, and stands at the head of its report. */
export const warnOfDepartures = async (config: RunConfig, run: RunFolder, { say }: Surroundings): Promise<void> => {
  for (const name of config.departures ?? []) {
    const warning = `NOT A SOUND PROTOCOL (${name}): ${departures[name]}.`;
    say?.(warning);
    await run.warn('departures', warning);
  }
};
