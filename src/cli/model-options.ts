import { resolve } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import type { AnswerSampling } from '../evaluation/answerer.ts';
import { type LocalModel, openLocalModel } from '../methods/local-model.ts';
import { surroundingsOf } from '../methods/stages.ts';
import { type DeviceName, deviceNames } from '../runtime/devices.ts';
import type { CommandContext } from './command-context.ts';
import { wholeNumber } from './config-options.ts';
import { modelArgument, stageOptions } from './stage-options.ts';

/** Options of the commands that let a model answer. */
export interface ModelOptions {
  readonly model: string;
  readonly adapter?: string;
  readonly threads?: number;
  readonly device?: DeviceName;
}

export interface SamplingOptions {
  readonly maximumTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
}

export const addAdapterOptions = (command: Command): Command =>
  command
    .option('--adapter <folder>', 'a PEFT adapter to put on it')
    .option('--threads <number>', 'threads of the arithmetic; without it, one a core', positiveNumber)
    .addOption(deviceOption('what computes; without it, cpu'));

export const deviceOption = (description: string): Option => new Option('--device <name>', description).choices(deviceNames);

export const addSamplingOptions = (command: Command, temperature: number, maximumTokens: number): Command =>
  command
    .option('--maximum-tokens <number>', 'tokens of an answer at most', positiveNumber, maximumTokens)
    .option('--temperature <number>', '0 is greedy', decimalNumber(0, 100), temperature)
    .option('--top-p <number>', 'the share of probability that is drawn from', decimalNumber(0, 1), 1)
    .option('--seed <number>', 'draws the answers', wholeNumber, 0);

export const samplingOf = ({ maximumTokens, temperature, topP, seed }: SamplingOptions): AnswerSampling => ({
  maximumTokens,
  temperature,
  topP,
  seed,
});

export const openModel = async ({ model, adapter, threads, device }: ModelOptions, context: CommandContext): Promise<LocalModel> =>
  openLocalModel(
    {
      model: modelArgument(model, context.terminal.workingFolder),
      ...(adapter !== undefined && { adapter: resolve(context.terminal.workingFolder, adapter) }),
      ...(threads !== undefined && { threadCount: threads }),
      ...(device !== undefined && { device }),
    },
    await surroundingsOf(stageOptions(context)),
  );

/** For counts of which there must be one at least. */
export const positiveNumber = (text: string): number => {
  const number = wholeNumber(text);
  if (number === 0) throw new InvalidArgumentError('Expected 1 or more.');
  return number;
};

const decimalNumber =
  (low: number, high: number) =>
  (text: string): number => {
    const number = Number(text);
    if (text.trim() === '' || !(number >= low && number <= high))
      throw new InvalidArgumentError(`Expected a number from ${low} to ${high}.`);
    return number;
  };
