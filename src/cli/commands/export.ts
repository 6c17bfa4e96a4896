import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { UserError } from '../../base/errors.ts';
import { exportResponses } from '../../methods/export-responses.ts';
import { surroundingsOf } from '../../methods/stages.ts';
import { modelFormats } from '../../methods/student.ts';
import { type ExportFormatName, exportFormatNames } from '../../responses/export-formats.ts';
import { openRun } from '../../run-folder/run-folder.ts';
import { readAdapter } from '../../weights/adapter.ts';
import { openModelFolder } from '../../weights/model-folder.ts';
import { writeMerged } from '../../weights/model-writer.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { modelArgument, stageOptions } from '../stage-options.ts';

interface ExportModelOptions {
  readonly adapter: string;
  readonly output: string;
  readonly format: keyof typeof modelFormats;
}

interface ExportResponsesOptions {
  readonly format: ExportFormatName;
  readonly output: string;
  readonly arm?: string;
  readonly primed: boolean;
  readonly config?: string;
}

export const addExport = (program: Command, act: Act): void => {
  const group = program.command('export').description('a merged model, or collected answers, as other programs read them');
  group
    .command('model', { isDefault: true })
    .description('put an adapter into its model: a model folder of its own (the word "model" may be left out)')
    .argument('<model>', 'the model that the adapter was trained on: a folder, a .gguf file, or owner/name on the hub')
    .requiredOption('--adapter <folder>', 'the PEFT adapter')
    .requiredOption('--output <folder>', 'the folder for the merged model')
    .addOption(new Option('--format <name>', 'numbers of the merged weights').choices(Object.keys(modelFormats)).default('bfloat16'))
    .action(act(exportModelCommand));
  group
    .command('responses')
    .description(
      "the answers that a run's arms learn from, with the student's questions, for TRL, LLaMA-Factory and others, with configs for them",
    )
    .argument('<run>', "the run's folder")
    .addOption(new Option('--format <name>', 'of the data').choices([...exportFormatNames]).makeOptionMandatory())
    .requiredOption('--output <folder>', 'a folder that is empty or not there')
    .option('--arm <name>', "this arm's answers; without it, every arm's, each in a folder of its name")
    .option('--primed', 'the prompts as the teacher saw them, with the priming', false)
    .option('--config <file>', "the run's config, if it was moved since: paths in it start from there")
    .action(act(exportResponsesCommand));
};

const exportModelCommand = async (context: CommandContext, modelName: string, options: ExportModelOptions): Promise<void> => {
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

const exportResponsesCommand = async (context: CommandContext, runFolder: string, options: ExportResponsesOptions): Promise<void> => {
  const { workingFolder, environment } = context.terminal;
  const arms = await exportResponses(
    {
      run: await openRun(resolve(workingFolder, runFolder)),
      format: options.format,
      output: resolve(workingFolder, options.output),
      isPrimed: options.primed,
      ...(options.arm !== undefined && { arm: options.arm }),
      ...(options.config !== undefined && { configFolder: dirname(resolve(workingFolder, options.config)) }),
      configSurroundings: { workingFolder, environment, isThere: existsSync },
    },
    await surroundingsOf(stageOptions(context)),
  );
  const lines = arms.map(({ arm, rowCount, folder, files }) => `${arm}: ${rowCount} answers in ${folder} (${files.join(', ')})`);
  printResult(context, arms, lines.join('\n'));
};
