import { join } from 'node:path';
import type { Command } from 'commander';
import { collect, planRun, run, type StageOptions } from '../../methods/stages.ts';
import { renderPlan } from '../../report/render-plan.ts';
import { renderTerminal } from '../../report/render-text.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions } from '../config-options.ts';
import { stageOptions } from '../stage-options.ts';
import { reportWidth } from './report.ts';

export const addRun = (program: Command, act: Act): void => {
  const command = program
    .command('run')
    .description('all of it: prime a teacher, collect, fine-tune a student for each source of answers, measure, compare');
  addConfigOptions(command, 'seeds')
    .option('--plan', 'only says how small a difference this run could find', false)
    .action(act(runCommand));
};

export const addCollect = (program: Command, act: Act): void => {
  const command = program
    .command('collect')
    .description("only the first step: the teacher's answers to the training questions; `run` goes on from there");
  addConfigOptions(command, 'seeds').action(act(collectCommand));
};

interface RunCommandOptions extends ConfigOptions {
  readonly plan: boolean;
}

const runCommand = async (context: CommandContext, file: string, options: RunCommandOptions): Promise<void> => {
  if (options.plan) {
    const plan = await planRun(file, optionsOf(context, options));
    printResult(context, plan, renderPlan(plan, reportWidth(context.terminal)));
    return;
  }
  const { folder, summary } = await run(file, optionsOf(context, options));
  context.progress.end();
  const text = renderTerminal(summary, reportWidth(context.terminal));
  printResult(context, { folder, ...summary }, `${text}\nAll of it is in ${folder}; the whole report in ${join(folder, 'report')}`);
};

const collectCommand = async (context: CommandContext, file: string, options: ConfigOptions): Promise<void> => {
  const { folder, summary } = await collect(file, optionsOf(context, options));
  context.progress.end();
  const { collections } = summary;
  const lines = collections.map(({ source, keptCount, failedCount }) => `${source}: ${keptCount} answers kept, ${failedCount} failed`);
  printResult(context, { folder, collections }, [...lines, `In ${join(folder, 'responses')}`].join('\n'));
};

const optionsOf = (context: CommandContext, { set, seed, output }: ConfigOptions): StageOptions => ({
  ...stageOptions(context),
  set: [...set, ...(seed === undefined ? [] : [`seeds=${JSON.stringify(seed)}`])],
  ...(output !== undefined && { output }),
});
