import { join } from 'node:path';
import type { Command } from 'commander';
import type { PromptPreview, RunEstimate } from '../../methods/plan-collection.ts';
import {
  collect,
  collectionFailures,
  estimateCollection,
  planRun,
  previewCollection,
  readCollectionBatch,
  run,
  type StageOptions,
  writeCollectionBatch,
} from '../../methods/stages.ts';
import { planSentence, renderPlan } from '../../report/render-plan.ts';
import { renderTerminal } from '../../report/render-text.ts';
import type { ReadBatch, WrittenBatch } from '../../responses/batch-file.ts';
import type { Response } from '../../responses/response.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { addConfigOptions, type ConfigOptions } from '../config-options.ts';
import { stageOptions } from '../stage-options.ts';
import { reportWidth } from './report.ts';

export const addRun = (program: Command, act: Act): void => {
  const command = program
    .command('run')
    .description('all of it: prime a teacher, collect, fine-tune a student for each source of answers, measure, compare');
  addConfigOptions(command, 'seeds')
    .option('--plan', 'only says how small a difference this run could find', false)
    .action(act(runCommand));
};

export const addCollect = (program: Command, act: Act): void => {
  const command = program
    .command('collect')
    .description("only the first step: the teacher's answers to the training questions; `run` goes on from there");
  addConfigOptions(command, 'seeds')
    .option('--dry-run', 'only prints the first prompts as the teacher will see them', false)
    .option('--estimate', 'only buys a few answers, which are kept, and says what the rest will cost', false)
    .option('--write-batch <file>', "only writes the requests without an answer as lines of the provider's or vLLM's batch interface")
    .option('--read-batch <file>', 'only takes in the answers of such a batch')
    .option('--failures', 'only lists the answers so far that are not learnt from', false)
    .action(act(collectCommand));
};

interface RunCommandOptions extends ConfigOptions {
  readonly plan: boolean;
}

const runCommand = async (context: CommandContext, file: string, options: RunCommandOptions): Promise<void> => {
  if (options.plan) {
    const plan = await planRun(file, optionsOf(context, options));
    printResult(context, plan, renderPlan(plan, reportWidth(context.terminal)));
    return;
  }
  context.progress.say(planSentence(await planRun(file, optionsOf(context, options))));
  const { folder, summary } = await run(file, optionsOf(context, options));
  context.progress.end();
  const text = renderTerminal(summary, reportWidth(context.terminal));
  printResult(context, { folder, ...summary }, `${text}\nAll of it is in ${folder}; the whole report in ${join(folder, 'report')}`);
};

interface CollectCommandOptions extends ConfigOptions {
  readonly dryRun: boolean;
  readonly estimate: boolean;
  readonly failures: boolean;
  readonly writeBatch?: string;
  readonly readBatch?: string;
}

const collectCommand = async (context: CommandContext, file: string, options: CollectCommandOptions): Promise<void> => {
  if (options.dryRun) {
    const previews = await previewCollection(file, previewCount, optionsOf(context, options));
    printResult(context, previews, renderPreviews(previews));
    return;
  }
  if (options.estimate) {
    const estimate = await estimateCollection(file, sampleCount, optionsOf(context, options));
    context.progress.end();
    printResult(context, estimate, renderEstimate(estimate));
    return;
  }
  if (options.failures) {
    const failures = await collectionFailures(file, optionsOf(context, options));
    printResult(context, failures, renderFailures(failures));
    return;
  }
  if (options.writeBatch !== undefined) {
    const written = await writeCollectionBatch(file, options.writeBatch, optionsOf(context, options));
    printResult(context, written, renderWritten(written));
    return;
  }
  if (options.readBatch !== undefined) {
    const read = await readCollectionBatch(file, options.readBatch, optionsOf(context, options));
    printResult(context, read, renderRead(read));
    return;
  }
  const { folder, summary } = await collect(file, optionsOf(context, options));
  context.progress.end();
  const { collections } = summary;
  const lines = collections.map(({ source, keptCount, failedCount, rejectedCount, rightCount }) => {
    const yields = rightCount === undefined ? '' : `, ${rightCount} of ${keptCount + rejectedCount} right`;
    return `${source}: ${keptCount} answers kept, ${failedCount} failed${rejectedCount === 0 ? '' : `, ${rejectedCount} rejected`}${yields}`;
  });
  printResult(context, { folder, collections }, [...lines, `In ${join(folder, 'responses')}`].join('\n'));
};

/** Prompts of each arm that a dry run shows. */
const previewCount = 2;

/** Answers of each arm that an estimate buys: with ten, Student's t is 2.26 standard errors. */
const sampleCount = 10;

const renderPreviews = (previews: readonly PromptPreview[]): string =>
  previews
    .flatMap(({ arm, prompts }) =>
      prompts.map(({ exampleId, messages }) =>
        [`── ${arm}, ${exampleId}`, ...messages.map(({ role, content }) => `[${role}]\n${content}`)].join('\n'),
      ),
    )
    .join('\n\n');

const renderEstimate = ({ arms, priceSource, asksTest, terms }: RunEstimate): string =>
  [
    ...arms.map(({ arm, text }) => `${arm}: ${text}`),
    ...(priceSource === undefined ? ['Prices are not known: name them in the config as collection.prices.'] : [`Prices: ${priceSource}.`]),
    ...(asksTest
      ? [
          'A run asks the teacher the test questions, too: not reckoned here, but within the same budget (evaluation.teacher: false leaves them out).',
        ]
      : []),
    ...terms,
  ].join('\n');

const renderWritten = ({ files, requestCount }: WrittenBatch): string =>
  requestCount === 0 ? 'Every question has an answer: nothing was written.' : `${requestCount} requests in ${files.join(', ')}`;

const renderRead = ({ newCount, knownCount, failures, strangeCount, openCount }: ReadBatch): string =>
  [
    `${newCount} new answers${knownCount === 0 ? '' : `, ${knownCount} that were there already`}`,
    ...Object.entries(failures).map(([reason, count]) => `${count} × ${reason}`),
    ...(strangeCount === 0 ? [] : [`${strangeCount} lines are no answers to requests of this config: was another one's file read?`]),
    openCount === 0 ? 'Every question has an answer.' : `${openCount} requests are still open; --write-batch writes them.`,
  ].join('\n');

const renderFailures = (failures: readonly Response[]): string =>
  failures.length === 0
    ? 'No answer has failed.'
    : failures
        .map(
          ({ source, exampleId, reason, detail, text }) =>
            `${source}  ${exampleId}  ${reason}  ${detail ?? JSON.stringify(text.slice(-60))}`,
        )
        .join('\n');

const optionsOf = (context: CommandContext, { set = [], seed, output }: ConfigOptions): StageOptions => ({
  ...stageOptions(context),
  set: [...set, ...(seed === undefined ? [] : [`seeds=${JSON.stringify(seed)}`])],
  ...(output !== undefined && { output }),
});
