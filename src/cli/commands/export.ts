import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { UserError } from '../../base/errors.ts';
import { surroundingsOf } from '../../methods/stages.ts';
import { modelFormats } from '../../methods/student.ts';
import { readAdapter } from '../../weights/adapter.ts';
import { openModelFolder } from '../../weights/model-folder.ts';
import { writeMerged } from '../../weights/model-writer.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { modelArgument, stageOptions } from '../stage-options.ts';

interface ExportOptions {
  readonly adapter: string;
  readonly output: string;
  readonly format: keyof typeof modelFormats;
}

export const addExport = (program: Command, act: Act): void => {
  program
    .command('export')
    .description('put an adapter into its model: a model folder of its own, which other programs read')
    .argument('<model>', 'the model that the adapter was trained on: a folder, a .gguf file, or owner/name on the hub')
    .requiredOption('--adapter <folder>', 'the PEFT adapter')
    .requiredOption('--output <folder>', 'the folder for the merged model')
    .addOption(new Option('--format <name>', 'numbers of the merged weights').choices(Object.keys(modelFormats)).default('bfloat16'))
    .action(act(exportCommand));
};

const exportCommand = async (context: CommandContext, modelName: string, options: ExportOptions): Promise<void> => {
  const { workingFolder } = context.terminal;
  const { resolveModel } = await surroundingsOf(stageOptions(context));
  const path = await resolveModel(modelArgument(modelName, workingFolder));
  const output = resolve(workingFolder, options.output);
  if (output === path) throw new UserError(`--output is the model's own folder, ${path}. Give the merged model another one.`);
  const folder = await openModelFolder(path);
  try {
    const adapter = await readAdapter(resolve(workingFolder, options.adapter), folder.tensors.names);
    const report = await writeMerged(output, folder, adapter, { format: modelFormats[options.format] });
    const share = `${(100 * report.changedShare).toFixed(1)} %`;
    printResult(
      context,
      { output, ...report },
      `Merged ${report.mergedCount} weights (${share} of their numbers changed) and read them back. Written to ${options.output}`,
    );
  } finally {
    await folder.tensors.close();
  }
};
