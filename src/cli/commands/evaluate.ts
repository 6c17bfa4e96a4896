import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { UserError } from '../../base/errors.ts';
import { parseRunConfig } from '../../config/parse-config.ts';
import { percent } from '../../evaluation/number-text.ts';
import { scoreAnswers } from '../../evaluation/score-answers.ts';
import { type AnswerSummary, evaluateModel, meanLogLikelihood, type ScoreShare, summariseAnswers } from '../../methods/evaluate-model.ts';
import { questionsOf } from '../../methods/questions.ts';
import { readConfig, surroundingsOf } from '../../methods/stages.ts';
import { type Example, generateWordProblems, readExamples, type Task, type TaskName, tasks } from '../../tasks/index.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { wholeNumber } from '../config-options.ts';
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

interface EvaluateOptions extends Omit<ModelOptions, 'model'>, SamplingOptions {
  readonly answers?: string;
  readonly config?: string;
  readonly task?: TaskName;
  readonly data?: string;
  readonly split: string;
  readonly limit?: number;
  readonly problemSeed: number;
  readonly output?: string;
  readonly likelihood: boolean;
  readonly batchSize?: number;
}

export const addEvaluate = (program: Command, act: Act): void => {
  const command = program
    .command('evaluate')
    .description("measure a model on a task's test questions, or score answers from elsewhere")
    .argument('[model]', 'a folder, a .gguf file, or owner/name on the hub; left out with --answers')
    .option('--answers <file>', 'score these: JSON lines with an id and a text for each question')
    .option('--config <file>', "the task and the test questions of a run's config")
    .addOption(new Option('--task <name>', 'instead of a config').choices(Object.keys(tasks)))
    .option('--data <path>', "the task's data: a file, a folder with test.jsonl, or hub:owner/name")
    .option('--split <name>', 'of a folder or a data set on the hub', 'test')
    .option('--limit <number>', 'the first so many questions', positiveNumber)
    .option('--problem-seed <number>', 'draws the questions of word-problems', wholeNumber, 1)
    .option('--output <folder>', 'where answers are kept; started again, it continues')
    .option('--no-likelihood', "without the log-likelihood of the questions' own solutions")
    .option('--batch-size <number>', 'questions answered together', positiveNumber);
  addSamplingOptions(addAdapterOptions(command), 0, 200).action(act(evaluateCommand));
};

const evaluateCommand = async (context: CommandContext, modelName: string | undefined, options: EvaluateOptions): Promise<void> => {
  if ((modelName === undefined) === (options.answers === undefined)) {
    throw new UserError('Give a model to measure, or --answers FILE to score: one of the two.');
  }
  const { task, examples } = await testQuestions(options, context);
  if (options.answers !== undefined) {
    const file = resolve(context.terminal.workingFolder, options.answers);
    const answers = await scoreAnswers({ file, task, examples });
    const summary = summariseAnswers(answers);
    printResult(context, { ...summary, answers }, summaryText(summary));
    return;
  }
  if (options.output === undefined) throw new UserError('Give --output FOLDER: the answers are kept there, for reading and to continue.');
  const model = await openModel({ ...options, model: modelName ?? '' }, context);
  try {
    const { answers, likelihoods } = await evaluateModel({
      model,
      task,
      examples,
      folder: resolve(context.terminal.workingFolder, options.output),
      sampling: samplingOf(options),
      likelihood: options.likelihood,
      ...(options.batchSize !== undefined && { batchSize: options.batchSize }),
      onProgress: context.progress.update,
      signal: context.signal,
    });
    const summary = summariseAnswers(answers);
    const logLikelihood = likelihoods === undefined ? undefined : meanLogLikelihood(likelihoods);
    const likelihoodText =
      logLikelihood === undefined ? '' : `\nlog-likelihood of gold solutions  ${logLikelihood.toFixed(4)} nats per token`;
    printResult(context, { ...summary, logLikelihood }, `${summaryText(summary)}${likelihoodText}\nAnswers are kept in ${options.output}`);
  } finally {
    await model.engine.release();
  }
};

/** The questions by a run's config, or by `--task` and `--data`. */
const testQuestions = async (
  { config: file, task: name, data, split, limit, problemSeed }: EvaluateOptions,
  context: CommandContext,
): Promise<{ readonly task: Task; readonly examples: readonly Example[] }> => {
  if (file !== undefined) {
    if (name !== undefined || data !== undefined) throw new UserError('Give --config, or --task with --data: not both.');
    const overrides = limit === undefined ? [] : [`task.test.limit=${limit}`];
    const questions = await questionsOf(
      readConfig(parseRunConfig, file, { ...stageOptions(context), set: overrides }).config.task,
      await surroundingsOf(stageOptions(context)),
    );
    return { task: questions.task, examples: await questions.openTest() };
  }
  if (name === undefined)
    throw new UserError(`Name the task: --task ${Object.keys(tasks).join(' or ')}, or the one of a config with --config FILE.`);
  if (name === 'word-problems' && data === undefined) {
    return { task: tasks[name], examples: generateWordProblems({ part: 'test', seed: problemSeed, count: limit ?? 200 }) };
  }
  if (data === undefined) throw new UserError(`Give --data FOLDER: where the questions of ${name} lie, as test.jsonl.`);
  const access = await surroundingsOf(stageOptions(context));
  const reading = { dataSplit: split, access, ...(limit !== undefined && { limit }) };
  return {
    task: tasks[name],
    examples: await readExamples(tasks[name], dataArgument(data, context.terminal.workingFolder), 'test', reading),
  };
};

const summaryText = (summary: AnswerSummary): string => {
  const { answerCount, strict, flexible, followsFormatCount, rightInFormatCount, truncatedCount, neverStopsCount, meanTokenCount } =
    summary;
  const share = ({ count, interval }: ScoreShare): string =>
    `${percent(count / answerCount)} %  (95 %: ${percent(interval.low)} to ${percent(interval.high)})  ${count} of ${answerCount}`;
  const plain = (count: number): string => `${percent(count / answerCount)} %`;
  return [
    `right, strict rule     ${share(strict)}`,
    `right, flexible rule   ${share(flexible)}`,
    `follows the format     ${plain(followsFormatCount)}`,
    ...(followsFormatCount === 0 ? [] : [`right of those         ${percent(rightInFormatCount / followsFormatCount)} %`]),
    ...(truncatedCount === undefined ? [] : [`cut off by the limit   ${plain(truncatedCount)}`]),
    ...(neverStopsCount === undefined ? [] : [`would never stop       ${plain(neverStopsCount)}`]),
    ...(meanTokenCount === undefined ? [] : [`tokens of an answer    ${meanTokenCount.toFixed(1)}`]),
  ].join('\n');
};
