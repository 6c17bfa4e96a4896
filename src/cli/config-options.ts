import { type Command, InvalidArgumentError, Option } from 'commander';

/** What the command line changes of a config. */
export interface ConfigOptions {
  readonly set?: readonly string[];
  readonly seed?: readonly number[];
  readonly output?: string;
}

/** Adds the options that every command with a config takes. */
export const addConfigOptions = (command: Command, seeds: 'one seed' | 'seeds'): Command =>
  command
    .argument('<config>', 'a YAML or JSON file')
    .option('--set <key=value>', 'change a value of the config: training.epochs=2 (again for each)', collected)
    .addOption(
      new Option(seeds === 'seeds' ? '--seed <number...>' : '--seed <number>', `instead of the config's ${seeds}`).argParser(
        (text: string, before: readonly number[] = []) => [...before, wholeNumber(text)],
      ),
    )
    .option('--output <folder>', "instead of the config's");

const collected = (text: string, before: readonly string[] = []): string[] => [...before, text];

/** For options that are counts or seeds. */
export const wholeNumber = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected a whole number from 0 on.');
  return Number(text);
};
