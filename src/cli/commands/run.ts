import { join } from 'node:path';
import type { Command } from 'commander';
import { parseRunConfig } from '../../config/parse-config.ts';
import { collectForRun, type RunOptions, runResponsePriming } from '../../methods/response-priming.ts';
import { renderTerminal } from '../../report/render-text.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions, outputOverride, readConfigFile } from '../config-file.ts';
import { surroundingsOf } from '../surroundings.ts';
import { reportWidth } from './report.ts';

export const addRun = (program: Command, act: Act): void => {
  const command = program
    .command('run')
    .description('all of it: prime a teacher, collect, fine-tune a student for each source of answers, measure, compare');
  addConfigOptions(command, 'seeds').action(act(run));
};

export const addCollect = (program: Command, act: Act): void => {
  const command = program
    .command('collect')
    .description("only the first step: the teacher's answers to the training questions; `run` goes on from there");
  addConfigOptions(command, 'seeds').action(act(collect));
};

const run = async (context: CommandContext, file: string, given: ConfigOptions): Promise<void> => {
  const options = runOptions(context, file, given);
  const summary = await runResponsePriming(options, surroundingsOf(context));
  context.progress.end();
  const text = renderTerminal(summary, reportWidth(context.terminal));
  const { folder } = options;
  printResult(context, { folder, ...summary }, `${text}\nAll of it is in ${folder}; the report in ${join(folder, 'report', 'index.html')}`);
};

const collect = async (context: CommandContext, file: string, given: ConfigOptions): Promise<void> => {
  const options = runOptions(context, file, given);
  const { collections } = await collectForRun(options, surroundingsOf(context));
  context.progress.end();
  const { folder } = options;
  const lines = collections.map(({ source, keptCount, failedCount }) => `${source}: ${keptCount} answers kept, ${failedCount} failed`);
  printResult(context, { folder, collections }, [...lines, `In ${join(folder, 'responses')}`].join('\n'));
};

const runOptions = ({ terminal }: CommandContext, file: string, options: ConfigOptions): RunOptions => {
  const seeds = options.seed === undefined ? [] : [`seeds=${JSON.stringify(options.seed)}`];
  const overrides = [...options.set, ...seeds, ...outputOverride(options.output, file, terminal)];
  const { config, recorded, text } = readConfigFile(parseRunConfig, file, overrides, terminal);
  return { config, configText: text, resolvedConfig: recorded, folder: config.output ?? join(terminal.workingFolder, 'runs', config.name) };
};
