import { basename, join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { UserError } from '../../base/errors.ts';
import { writeFileAtomic, writeJsonAtomic } from '../../base/folders.ts';
import { attentionHeadline, renderAttentionPage } from '../../inspection/attention-page.ts';
import { type AttentionStudy, mapMeasurer, studyAttention } from '../../inspection/attention-study.ts';
import { type HeadMap, type HeadPlace, headMapOf, renderHeadMap } from '../../inspection/head-map.ts';
import { inspectHead, inspectRun } from '../../inspection/inspect-run.ts';
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
  readonly threads?: number;
  readonly map?: HeadPlace;
  readonly prompt?: string;
  readonly arm?: string;
  readonly output?: string;
}

export const addInspect = (program: Command, act: Act): void => {
  program
    .command('inspect')
    .description('a look into the heads')
    .command('attention')
    .description("what each head of a run's students looks at, beside their base, over many held-out questions; or one head's map as SVG")
    .argument('[run]', "the run's folder; left out with --maps")
    .option('--model <model>', "the students' base: a folder, a .gguf file, or owner/name on the hub")
    .option('--maps <folders...>', 'instead of a run: folders of .npy files, one a prompt, [layers, heads, length, length]; the base first')
    .option('--prompts <number>', 'questions that are looked at', positiveNumber, 64)
    .option('--length <number>', 'tokens of a text at most', positiveNumber, 256)
    .option('--arms <names...>', 'these arms, or sources for their first seed; without it, the first seed of each')
    .option('--threads <number>', 'texts that are measured side by side, a thread each; without it, one a core', positiveNumber)
    .option('--map <layer.head>', 'draw this one head instead, counted from 0: 12.3', headPlace)
    .option('--prompt <id>', 'with --map: on this test question (or .npy file); without it, the first')
    .option('--arm <name>', 'with --map: of this arm (or folder of --maps); without it, of the base')
    .option('--output <path>', 'the folder of the page (without it, inspection/ in the run), or with --map the SVG file')
    .action(act(inspectAttention));
};

const headPlace = (text: string): HeadPlace => {
  const [, layer, head] = /^(\d+)\.(\d+)$/.exec(text) ?? [];
  if (layer === undefined || head === undefined) throw new InvalidArgumentError('Expected layer and head, counted from 0, such as 12.3.');
  return { layer: Number(layer), head: Number(head) };
};

const inspectAttention = async (context: CommandContext, folder: string | undefined, options: InspectOptions): Promise<void> => {
  const { terminal } = context;
  if ((folder === undefined) === (options.maps === undefined))
    throw new UserError('Give a run, or --maps with folders of .npy files: one of the two.');
  if (options.map === undefined && (options.prompt !== undefined || options.arm !== undefined))
    throw new UserError('--prompt and --arm say which map to draw: give --map LAYER.HEAD with them.');
  if (options.map !== undefined && options.output?.endsWith('.svg') === false)
    throw new UserError(`--output names the drawing with --map, an .svg file; got ${options.output}.`);
  if (options.map !== undefined) return writeHeadMap(context, await headMapFor(context, folder, options, options.map), options.output);
  if (folder === undefined) {
    const { study, names } = await studyFolders(context, options.maps ?? []);
    return write(context, study, resolve(terminal.workingFolder, options.output ?? 'inspection'), names.join(', '));
  }
  const run = await openRun(resolve(terminal.workingFolder, folder));
  const { study, answersOf, seeds } = await inspectRun(
    {
      run,
      model: baseModel(context, options),
      promptCount: options.prompts,
      maximumLength: options.length,
      ...(options.arms !== undefined && { arms: options.arms }),
      ...(options.threads !== undefined && { threadCount: options.threads }),
      onProgress: (progress) => context.progress.update('look at texts', progress),
    },
    await surroundingsOf(stageOptions(context)),
  );
  const output = options.output === undefined ? join(run.path, 'inspection') : resolve(terminal.workingFolder, options.output);
  await write(
    context,
    study,
    output,
    `${run.name}: ${seeds.length === 1 ? 'seed' : 'seeds'} ${seeds.join(', ')}, questions with the answers of ${answersOf}`,
  );
};

const baseModel = ({ terminal }: CommandContext, { model }: InspectOptions): string => {
  if (model === undefined) throw new UserError("Give --model: the folder of the students' base, which a run does not hold.");
  return modelArgument(model, terminal.workingFolder);
};

const headMapFor = async (
  context: CommandContext,
  folder: string | undefined,
  options: InspectOptions,
  place: HeadPlace,
): Promise<HeadMap> => {
  const { terminal } = context;
  const { arm, prompt } = options;
  if (folder === undefined) {
    const folders = options.maps ?? [];
    const chosen = arm === undefined ? folders[0] : folders.find((path) => basename(path) === arm);
    if (chosen === undefined)
      throw new UserError(`--arm ${arm} is none of the folders of --maps: ${folders.map((path) => basename(path)).join(', ')}.`);
    return headOfFolder(resolve(terminal.workingFolder, chosen), place, prompt);
  }
  return inspectHead(
    {
      ...place,
      run: await openRun(resolve(terminal.workingFolder, folder)),
      model: baseModel(context, options),
      maximumLength: options.length,
      ...(arm !== undefined && { arm }),
      ...(prompt !== undefined && { promptId: prompt }),
    },
    await surroundingsOf(stageOptions(context)),
  );
};

const headOfFolder = async (folder: string, place: HeadPlace, promptId: string | undefined): Promise<HeadMap> => {
  const { prompts, maps } = await openMapsFolder(folder);
  const prompt = promptId === undefined ? prompts[0] : prompts.find(({ id }) => id === promptId || id === `${promptId}.npy`);
  if (prompt === undefined)
    throw new UserError(
      `${folder} has no maps of ${promptId}. Files: ${prompts
        .map(({ id }) => id)
        .join(', ')
        .slice(0, 300)}.`,
    );
  let layer = 0;
  for await (const layerMaps of maps(prompt)) {
    if (layer === place.layer) return headMapOf(layerMaps, place, { subject: basename(folder), promptId: prompt.id });
    layer++;
  }
  throw new UserError(`${prompt.id} holds layers 0 to ${layer - 1}; there is no layer ${place.layer}.`);
};

const writeHeadMap = async (context: CommandContext, map: HeadMap, output: string | undefined): Promise<void> => {
  const { layer, head, subject, promptId, length } = map;
  const path = resolve(context.terminal.workingFolder, output ?? `attention-${subject}-${layer}.${head}.svg`);
  await writeFileAtomic(path, renderHeadMap(map));
  context.progress.end();
  const rows = Array.from({ length }, (_, query) => [...map.data.subarray(query * length, (query + 1) * length)]);
  printResult(
    context,
    { file: path, subject, layer, head, prompt: promptId, tokens: map.tokens, map: rows },
    `${subject}, layer ${layer}, head ${head}, on ${promptId} (${length} tokens): ${path}`,
  );
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
    subjects: opened.map(({ name }) => name),
    measurers: [mapMeasurer(opened)],
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
