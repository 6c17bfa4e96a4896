import { join } from 'node:path';
import type { Command } from 'commander';
import { parseRunConfig } from '../../config/parse-config.ts';
import { runResponsePriming } from '../../methods/response-priming.ts';
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

const run = async (context: CommandContext, file: string, options: ConfigOptions): Promise<void> => {
  const { terminal, progress } = context;
  const seeds = options.seed === undefined ? [] : [`seeds=${JSON.stringify(options.seed)}`];
  const overrides = [...options.set, ...seeds, ...outputOverride(options.output, file, terminal)];
  const { config, recorded, text } = readConfigFile(parseRunConfig, file, overrides, terminal);
  const folder = config.output ?? join(terminal.workingFolder, 'runs', config.name);
  const summary = await runResponsePriming({ config, configText: text, resolvedConfig: recorded, folder }, surroundingsOf(context));
  progress.end();
  printResult(
    context,
    { folder, ...summary },
    `${renderTerminal(summary, reportWidth(terminal))}\nAll of it is in ${folder}; the whole report in ${join(folder, 'report', 'report.md')}`,
  );
};
