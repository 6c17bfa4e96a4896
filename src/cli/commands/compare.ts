import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { UserError } from '../../base/errors.ts';
import { compareAnswers } from '../../evaluation/compare-answers.ts';
import { type AnswerFile, type AnswerScoring, readAnswerFile } from '../../evaluation/read-answer-file.ts';
import { surroundingsOf } from '../../methods/stages.ts';
import { renderComparison } from '../../report/render-comparison.ts';
import { readExamples, type TaskName, tasks } from '../../tasks/index.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { dataArgument, stageOptions } from '../stage-options.ts';
import { reportWidth } from './report.ts';

interface CompareOptions {
  readonly onlyCommon: boolean;
  readonly score: 'strict' | 'flexible';
  readonly task?: TaskName;
  readonly data?: string;
}

export const addCompare = (program: Command, act: Act): void => {
  program
    .command('compare')
    .description('two sets of answers to the same questions, from a run, from lm-evaluation-harness (--log_samples) or plain')
    .argument('<first>', 'a file of answers, or several seeds of one arm with commas between them')
    .argument('<second>', 'what it is compared with')
    .option('--only-common', 'the questions that all files have, where they differ', false)
    .addOption(new Option('--score <rule>', 'the score that the first line speaks of').choices(['strict', 'flexible']).default('strict'))
    .addOption(new Option('--task <name>', 'for plain answers: whose rules score them').choices(Object.keys(tasks)))
    .option('--data <path>', "for plain answers: the task's data, a file, a folder with test.jsonl, or hub:owner/name")
    .action(act(compareCommand));
};

const compareCommand = async (context: CommandContext, first: string, second: string, options: CompareOptions): Promise<void> => {
  const { terminal } = context;
  const scoring = await scoringOf(options, context);
  const read = async (list: string): Promise<AnswerFile[]> => {
    const files: AnswerFile[] = [];
    for (const name of list.split(',')) files.push(await readAnswerFile(resolve(terminal.workingFolder, name), scoring));
    return files;
  };
  const comparison = compareAnswers(await read(first), await read(second), { onlyCommon: options.onlyCommon });
  printResult(context, comparison, renderComparison(comparison, options.score, reportWidth(terminal)));
};

const scoringOf = async ({ task, data }: CompareOptions, context: CommandContext): Promise<AnswerScoring | undefined> => {
  if (task === undefined && data === undefined) return undefined;
  if (task === undefined || data === undefined)
    throw new UserError('Give --task and --data together: the rules, and the questions they are about.');
  const access = await surroundingsOf(stageOptions(context));
  return {
    task: tasks[task],
    examples: await readExamples(tasks[task], dataArgument(data, context.terminal.workingFolder), 'test', { access }),
  };
};
