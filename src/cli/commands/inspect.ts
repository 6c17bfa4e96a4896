import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { UserError } from '../../base/errors.ts';
import { writeFileAtomic, writeJsonAtomic } from '../../base/folders.ts';
import { attentionHeadline, renderAttentionPage } from '../../inspection/attention-page.ts';
import { type AttentionStudy, studyAttention } from '../../inspection/attention-study.ts';
import { inspectRun } from '../../inspection/inspect-run.ts';
import { openMapsFolder } from '../../inspection/maps-folder.ts';
import { surroundingsOf } from '../../methods/stages.ts';
import { openRun } from '../../run-folder/run-folder.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { positiveNumber } from '../model-options.ts';
import { modelArgument, stageOptions } from '../stage-options.ts';

interface InspectOptions {
  readonly model?: string;
  readonly maps?: readonly string[];
  readonly prompts: number;
  readonly length: number;
  readonly arms?: readonly string[];
  readonly output?: string;
}

export const addInspect = (program: Command, act: Act): void => {
  program
    .command('inspect')
    .description('a look into the heads')
    .command('attention')
    .description("what each head of a run's students looks at, beside their base, over many held-out questions")
    .argument('[run]', "the run's folder; left out with --maps")
    .option('--model <model>', "the students' base: a folder, a .gguf file, or owner/name on the hub")
    .option('--maps <folders...>', 'instead of a run: folders of .npy files, one a prompt, [layers, heads, length, length]; the base first')
    .option('--prompts <number>', 'questions that are looked at', positiveNumber, 64)
    .option('--length <number>', 'tokens of a text at most', positiveNumber, 256)
    .option('--arms <names...>', 'these arms; without it, the first seed of each')
    .option('--output <folder>', 'where the page is written; without it, inspection/ in the run')
    .action(act(inspectAttention));
};

const inspectAttention = async (context: CommandContext, folder: string | undefined, options: InspectOptions): Promise<void> => {
  const { terminal } = context;
  if ((folder === undefined) === (options.maps === undefined))
    throw new UserError('Give a run, or --maps with folders of .npy files: one of the two.');
  if (folder !== undefined) {
    if (options.model === undefined) throw new UserError("Give --model: the folder of the students' base, which a run does not hold.");
    const run = await openRun(resolve(terminal.workingFolder, folder));
    const { study, answersOf } = await inspectRun(
      {
        run,
        model: modelArgument(options.model, terminal.workingFolder),
        promptCount: options.prompts,
        maximumLength: options.length,
        ...(options.arms !== undefined && { arms: options.arms }),
        onProgress: (progress) => context.progress.update('look at texts', progress),
      },
      await surroundingsOf(stageOptions(context)),
    );
    const output = options.output === undefined ? join(run.path, 'inspection') : resolve(terminal.workingFolder, options.output);
    return write(context, study, output, `${run.name}: questions with the answers of ${answersOf}`);
  }
  const { study, names } = await studyFolders(context, options.maps ?? []);
  await write(context, study, resolve(terminal.workingFolder, options.output ?? 'inspection'), names.join(', '));
};

const studyFolders = async (context: CommandContext, folders: readonly string[]): Promise<{ study: AttentionStudy; names: string[] }> => {
  const opened = [];
  for (const folder of folders) {
    opened.push({ name: basename(folder), ...(await openMapsFolder(resolve(context.terminal.workingFolder, folder))) });
  }
  const [first, ...others] = opened;
  if (first === undefined) throw new UserError('Give --maps at least one folder.');
  const idsOf = ({ prompts }: typeof first) => prompts.map(({ id, tokens }) => `${id} (${tokens.length} tokens)`).join(', ');
  const unlike = others.find((other) => idsOf(other) !== idsOf(first));
  if (unlike !== undefined) {
    throw new UserError(
      `${first.name} and ${unlike.name} hold maps of different prompts: ${idsOf(first).slice(0, 200)}; ${idsOf(unlike).slice(0, 200)}. Name files by prompt.`,
    );
  }
  const study = await studyAttention({
    prompts: first.prompts,
    subjects: opened.map(({ name, maps }) => ({ name, maps })),
    onProgress: (progress) => context.progress.update('measure maps', progress),
    signal: context.signal,
  });
  return { study, names: opened.map(({ name }) => name) };
};

const write = async (context: CommandContext, study: AttentionStudy, output: string, title: string): Promise<void> => {
  const page = join(output, 'attention.html');
  await writeFileAtomic(page, await renderAttentionPage(study, title));
  // JSON has no NaN: what cannot be measured (a layer before the first) becomes null.
  await writeJsonAtomic(join(output, 'attention.json'), study);
  context.progress.end();
  printResult(context, { page, ...study }, `${attentionHeadline(study)}\n\nThe page: ${page}`);
};
