import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { StageOptions } from '../methods/stages.ts';
import { parseHubReference } from '../weights/hub-reference.ts';
import type { CommandContext } from './command-context.ts';

/** What the stages get of this command: its options, progress, Ctrl-C. */
export const stageOptions = ({ terminal, options, progress, signal }: CommandContext): StageOptions => ({
  offline: options.offline,
  signal,
  onProgress: progress.update,
  say: progress.say,
  environment: terminal.environment,
  workingFolder: terminal.workingFolder,
});

/** Data as they are named on the command line: a file or folder from where the command is given, or a data set on the hub. */
export const dataArgument = (text: string, workingFolder: string): string =>
  text.startsWith('hub:') ? text : resolve(workingFolder, text);

/** A model as it is named on the command line: a folder or file from where the command is given, or a repository on the hub. */
export const modelArgument = (text: string, workingFolder: string): string => {
  const path = resolve(workingFolder, text);
  if (text.startsWith('hub:')) return text;
  return parseHubReference(text) !== undefined && !existsSync(path) ? `hub:${text}` : path;
};
