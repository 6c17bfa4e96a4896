import type { Command } from 'commander';
import { parseTrainConfig } from '../../config/parse-config.ts';
import { train } from '../../methods/train.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions, outputOverride, readConfigFile } from '../config-file.ts';
import { surroundingsOf } from '../surroundings.ts';

export const addTrain = (program: Command, act: Act): void => {
  const command = program
    .command('train')
    .description('fine-tune a model, or train one from scratch, on conversations or prompts with completions');
  addConfigOptions(command, 'one seed').action(act(trainCommand));
};

const trainCommand = async (context: CommandContext, file: string, options: ConfigOptions): Promise<void> => {
  const seed = options.seed?.at(-1);
  const overrides = [
    ...options.set,
    ...(seed === undefined ? [] : [`seed=${seed}`]),
    ...outputOverride(options.output, file, context.terminal),
  ];
  const { config } = readConfigFile(parseTrainConfig, file, overrides, context.terminal);
  const report = await train(config, surroundingsOf(context));
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
