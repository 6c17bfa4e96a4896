import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type ForgetReport, forgetInRun } from '../../methods/forget.ts';
import type { QuestionSplit } from '../../run-folder/forgotten.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';
import { taskOf } from './report.ts';

interface ForgetCommandOptions {
  readonly students: 'mark' | 'remove';
  readonly split?: QuestionSplit;
}

export const addForget = (program: Command, act: Act): void => {
  program
    .command('forget')
    .description('removes a question and everything made from it from a run, and names the students that saw it')
    .argument('<run>', "the run's folder")
    .argument('<id>', "the question's id, as in its answers")
    .addOption(
      new Option('--students <what>', 'what becomes of students that saw it: mark them, or remove them and what they answered')
        .choices(['mark', 'remove'])
        .default('mark'),
    )
    .addOption(new Option('--split <name>', 'where a training and a test question have this id').choices(['train', 'test']))
    .action(act(forgetCommand));
};

const forgetCommand = async (
  context: CommandContext,
  folder: string,
  id: string,
  { students, split }: ForgetCommandOptions,
): Promise<void> => {
  const report = await forgetInRun({ folder: resolve(context.terminal.workingFolder, folder), id, students, split, taskOf });
  printResult(context, report, renderForgotten(report));
};

const renderForgotten = ({ id, removed, students, studentsAre, removedFiles, leftovers }: ForgetReport): string =>
  [
    `Forgot ${id}: ${Object.entries(removed)
      .map(([file, count]) => `${count} ${count === 1 ? 'line' : 'lines'} of ${file}`)
      .join(', ')}.`,
    ...(students.length === 0
      ? ['No student was trained on it.']
      : [
          `Students that were trained on it, ${studentsAre === 'marked' ? 'marked until they are trained anew' : 'removed with what they answered'}: ${students.join(', ')}. \`retort run\` with the run's config trains them anew, without it.`,
        ]),
    ...(removedFiles.length === 0 ? [] : [`Removed, or written anew without it: ${removedFiles.join(', ')}.`]),
    ...(leftovers.length === 0 ? [] : [`Its words still stand in ${leftovers.join(', ')}: another question's, or yours to look at.`]),
    "Not reached: your data files, copies of the run, what was sent to a teacher's provider.",
  ].join('\n');
