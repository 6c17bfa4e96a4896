import type { Command } from 'commander';
import type { ProfileLine, StepProfile } from '../../engines/step-profile.ts';
import { profileTraining, train } from '../../methods/stages.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions } from '../config-options.ts';
import { stageOptions } from '../stage-options.ts';

export const addTrain = (program: Command, act: Act): void => {
  const command = program
    .command('train')
    .description('fine-tune a model, or train one from scratch, on conversations or prompts with completions');
  addConfigOptions(command, 'one seed')
    .option('--profile', 'train nothing: measure where the time of the largest micro-batch goes, by op and by layer')
    .action(act(trainCommand));
};

interface TrainOptions extends ConfigOptions {
  readonly profile?: true;
}

const trainCommand = async (context: CommandContext, file: string, options: TrainOptions): Promise<void> => {
  const { set = [], seed, output, profile } = options;
  const stage = {
    ...stageOptions(context),
    set: [...set, ...(seed === undefined ? [] : [`seed=${seed.at(-1)}`])],
    ...(output !== undefined && { output }),
  };
  if (profile === true) {
    const found = await profileTraining(file, stage);
    printResult(context, found, profileText(found));
    return;
  }
  const report = await train(file, stage);
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

const profileText = ({ shape, tokenCount, durationMs, byOp, byLayer }: StepProfile): string => {
  const { batch, sequence, lossCount } = shape;
  const rate = Math.round((1000 * tokenCount) / durationMs);
  return [
    `One micro-batch, forward and back, on one thread: ${batch} × ${sequence} tokens, ${lossCount} with a loss: ${durationMs.toFixed(0)} ms, ${rate} tokens/s`,
    '',
    ...profileTable('op', 'runs', byOp),
    '',
    ...profileTable('layer', 'ops', byLayer),
  ].join('\n');
};

const profileTable = (what: string, counted: string, lines: readonly ProfileLine[]): string[] => {
  const width = Math.max(what.length, ...lines.map(({ name }) => name.length));
  const row = (name: string, ...cells: readonly string[]): string =>
    [name.padEnd(width), ...cells.map((cell) => cell.padStart(9))].join(' ');
  return [
    row(what, 'ms', 'share', counted, 'GFLOP/s'),
    ...lines.map(({ name, durationMs, share, count, gigaflops }) =>
      row(name, durationMs.toFixed(1), `${(100 * share).toFixed(1)} %`, String(Math.round(count)), gigaflops?.toFixed(0) ?? ''),
    ),
  ];
};
