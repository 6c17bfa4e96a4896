import { existsSync, readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { messageOf, UserError } from '../base/errors.ts';
import { hasCode } from '../base/folders.ts';
import type { ConfigSource } from '../config/config-text.ts';
import type { ConfigSurroundings, ParsedConfig } from '../config/parse-config.ts';
import type { Terminal } from './terminal.ts';

/** What the command line changes of a config. */
export interface ConfigOptions {
  readonly set: readonly string[];
  readonly seed?: readonly number[];
  readonly output?: string;
}

/** Adds the options that every command with a config takes. */
export const addConfigOptions = (command: Command, seeds: 'one seed' | 'seeds'): Command =>
  command
    .argument('<config>', 'a YAML or JSON file')
    .option('--set <key=value>', 'change a value of the config: training.epochs=2 (again for each)', collected, [])
    .addOption(
      new Option(seeds === 'seeds' ? '--seed <number...>' : '--seed <number>', `instead of the config's ${seeds}`).argParser(
        (text: string, before: readonly number[] = []) => [...before, wholeNumber(text)],
      ),
    )
    .option('--output <folder>', "instead of the config's");

const collected = (text: string, before: readonly string[]): string[] => [...before, text];

/** For options that are counts or seeds. */
export const wholeNumber = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 0 on.');
  return Number(text);
};

/** Reads and parses a config file; messages name it as the user did. */
export const readConfigFile = <Config>(
  parse: (source: ConfigSource, surroundings: ConfigSurroundings) => ParsedConfig<Config>,
  file: string,
  overrides: readonly string[],
  { workingFolder, environment }: Terminal,
): ParsedConfig<Config> => {
  const path = resolve(workingFolder, file);
  return parse({ text: readText(path, file), file, overrides }, { folder: dirname(path), environment, isThere: existsSync });
};

/** `--output` is meant from where the command is given, a config's paths from where the config lies. */
export const outputOverride = (output: string | undefined, file: string, { workingFolder }: Terminal): string[] =>
  output === undefined
    ? []
    : [`output=${JSON.stringify(relative(dirname(resolve(workingFolder, file)), resolve(workingFolder, output)) || '.')}`];

const readText = (path: string, file: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new UserError(`There is no config at ${file}. Check the path.`);
    if (hasCode(error, 'EISDIR')) throw new UserError(`${file} is a folder. Give the config's file, such as ${file}/run.yaml.`);
    throw new UserError(`${file} cannot be read: ${messageOf(error)}`, { cause: error });
  }
};
