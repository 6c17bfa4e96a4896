import { resolve } from 'node:path';
import type { Command } from 'commander';
import { generate } from '../../methods/generate.ts';
import { surroundingsOf } from '../../methods/stages.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import {
  addAdapterOptions,
  addSamplingOptions,
  type ModelOptions,
  openModel,
  positiveNumber,
  type SamplingOptions,
  samplingOf,
} from '../model-options.ts';
import { dataArgument, stageOptions } from '../stage-options.ts';

interface GenerateOptions extends Omit<ModelOptions, 'model'>, SamplingOptions {
  readonly output: string;
  readonly logProbabilities?: boolean;
  readonly batchSize?: number;
  readonly split?: string;
}

export const addGenerate = (program: Command, act: Act): void => {
  const command = program
    .command('generate')
    .description('prompts in, completions out, as JSON lines; completions that are given are scored')
    .argument('<model>', 'a folder, a .gguf file, or owner/name on the hub')
    .argument(
      '<prompts>',
      'rows {"messages": […]} or {"prompt": "raw text"}, with "completion" to score that one: .jsonl, .json, .csv, .parquet, hub:owner/name',
    )
    .requiredOption('--output <file>', 'where completions are appended; started again, it continues')
    .option('--log-probabilities', 'with the log-probability of each token');
  addSamplingOptions(addAdapterOptions(command), 0, 256)
    .option('--split <name>', 'of a folder or a data set on the hub; without it, test')
    .option('--batch-size <number>', 'prompts answered together', positiveNumber)
    .action(act(generateCommand));
};

const generateCommand = async (context: CommandContext, modelName: string, prompts: string, options: GenerateOptions): Promise<void> => {
  const { workingFolder } = context.terminal;
  const model = await openModel({ ...options, model: modelName }, context);
  try {
    const report = await generate({
      model,
      input: dataArgument(prompts, workingFolder),
      ...(options.split !== undefined && { split: options.split }),
      access: await surroundingsOf(stageOptions(context)),
      output: resolve(workingFolder, options.output),
      sampling: samplingOf(options),
      logProbabilities: options.logProbabilities === true,
      ...(options.batchSize !== undefined && { batchSize: options.batchSize }),
      onProgress: (state) => context.progress.update('generate', state),
      signal: context.signal,
    });
    const cut = report.truncatedCount === 0 ? '' : `, ${report.truncatedCount} of them cut off by the token limit`;
    const { newCount, promptCount, tokenCount } = report;
    printResult(
      context,
      report,
      `${newCount} new completions of ${promptCount} prompts${cut}; ${tokenCount.toLocaleString('en-US')} tokens. In ${options.output}`,
    );
  } finally {
    await model.engine.release();
  }
};
