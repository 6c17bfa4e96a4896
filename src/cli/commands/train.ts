import type { Command } from 'commander';
import { train } from '../../methods/stages.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions } from '../config-options.ts';
import { stageOptions } from '../stage-options.ts';

export const addTrain = (program: Command, act: Act): void => {
  const command = program
    .command('train')
    .description('fine-tune a model, or train one from scratch, on conversations or prompts with completions');
  addConfigOptions(command, 'one seed').action(act(trainCommand));
};

const trainCommand = async (context: CommandContext, file: string, options: ConfigOptions): Promise<void> => {
  const { set = [], seed, output } = options;
  const report = await train(file, {
    ...stageOptions(context),
    set: [...set, ...(seed === undefined ? [] : [`seed=${seed.at(-1)}`])],
    ...(output !== undefined && { output }),
  });
  const { folder, rowCount, stepCount, trainedTokenCount, developmentLoss, wasDone } = report;
  const loss = developmentLoss === undefined ? '' : `, development loss ${developmentLoss.toFixed(4)} nats per token`;
  printResult(
    context,
    report,
    wasDone
      ? `${folder} was trained before, in exactly this way: nothing to do.`
      : `Trained on ${rowCount} rows: ${stepCount} steps, ${trainedTokenCount.toLocaleString('en-US')} tokens learnt${loss}.\nWritten to ${folder}`,
  );
};
