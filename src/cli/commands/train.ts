import type { Command } from 'commander';
import { UserError } from '../../base/errors.ts';
import { gigabytes, memoryBytes } from '../../base/memory.ts';
import type { Activations } from '../../engines/engine.ts';
import type { ProfileLine, StepProfile } from '../../engines/step-profile.ts';
import { planTraining, profileTraining, train } from '../../methods/stages.ts';
import type { PlannedTraining } from '../../methods/train.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions } from '../config-options.ts';
import { stageOptions } from '../stage-options.ts';

export const addTrain = (program: Command, act: Act): void => {
  const command = program
    .command('train')
    .description('fine-tune a model, or train one from scratch, on conversations or prompts with completions');
  addConfigOptions(command, 'one seed')
    .option('--dry-run', 'train nothing: read and check all rows, and say what would run and how much memory it would take')
    .option('--profile', 'train nothing: measure where the time of the largest micro-batch goes, by op and by layer')
    .action(act(trainCommand));
};

interface TrainOptions extends ConfigOptions {
  readonly dryRun?: true;
  readonly profile?: true;
}

const trainCommand = async (context: CommandContext, file: string, options: TrainOptions): Promise<void> => {
  const { set = [], seed, output, dryRun, profile } = options;
  const stage = {
    ...stageOptions(context),
    set: [...set, ...(seed === undefined ? [] : [`seed=${seed.at(-1)}`])],
    ...(output !== undefined && { output }),
  };
  if (dryRun === true && profile === true) throw new UserError('--dry-run computes nothing, and --profile measures: give one of them.');
  if (dryRun === true) {
    const plan = await planTraining(file, stage);
    printResult(context, plan, planText(plan));
    return;
  }
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

const planText = (plan: PlannedTraining): string => {
  const { rowCount, droppedCount, stepCount, tokenCount, weightedTokenCount, placeCount, runs, runnerCount, memory } = plan;
  const count = (value: number): string => value.toLocaleString('en-US');
  const filled = Math.round((100 * (placeCount - tokenCount)) / placeCount);
  const runLines = runs.map(
    ({ shape: { batch, sequence }, activations, count: times }) =>
      `  ${count(times).padStart(7)} of ${batch} × ${sequence} tokens${againText(activations)}`,
  );
  const sides = [
    ['compiled programs and what they compute', memory.programsBytes],
    ['weights', memory.weightsBytes],
    ['what is trained, with gradients and optimiser', memory.stateBytes],
    ['the process itself', memory.processBytes],
  ] as const;
  return [
    `${count(rowCount)} rows${droppedCount === 0 ? '' : ` (${count(droppedCount)} left out as too long)`}, ${count(stepCount)} steps, ${count(tokenCount)} tokens, ${count(weightedTokenCount)} of them to learn.`,
    `Runs, dealt out among ${runnerCount === 1 ? 'one thread' : `${runnerCount} threads`}; ${filled} % of what they compute fills sequences up:`,
    ...runLines,
    `Memory: about ${gigabytes(memory.totalBytes)} at most, of ${gigabytes(memoryBytes())}:`,
    ...(memory.totalBytes > memoryBytes()
      ? ['This is more than there is: take engine.activations: recomputed, fewer engine.threadCount, or shorter rows.']
      : []),
    ...sides.map(([name, bytes]) => `  ${gigabytes(bytes).padStart(7)}  ${name}`),
  ].join('\n');
};

const againText = (activations: Activations): string => (activations === 'recomputed' ? ', layers computed once more on the way back' : '');

const profileText = ({ shape, activations, tokenCount, durationMs, byOp, byLayer }: StepProfile): string => {
  const { batch, sequence, lossCount } = shape;
  const rate = Math.round((1000 * tokenCount) / durationMs);
  return [
    `One micro-batch, forward and back, on one thread: ${batch} × ${sequence} tokens, ${lossCount} with a loss${againText(activations)}: ${durationMs.toFixed(0)} ms, ${rate} tokens/s`,
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
