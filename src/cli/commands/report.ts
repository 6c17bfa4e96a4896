import { resolve } from 'node:path';
import type { Command } from 'commander';
import { UserError } from '../../base/errors.ts';
import { writeFileAtomic } from '../../base/folders.ts';
import { checkRun, describeCheck, isSound } from '../../evaluation/check-run.ts';
import { summariseRun } from '../../evaluation/summarise-run.ts';
import { besideText, type RunBesideOthers, renderRuns } from '../../report/render-runs.ts';
import { renderJson, renderMarkdown, renderTerminal } from '../../report/render-text.ts';
import { renderRunsPage } from '../../report/runs-page.ts';
import { writeReport } from '../../report/write-report.ts';
import { openRun, type RunFolder } from '../../run-folder/run-folder.ts';
import { type Task, tasks } from '../../tasks/index.ts';
import { type Act, type CommandContext, printResult } from '../command-context.ts';

interface ReportOptions {
  readonly markdown: boolean;
  readonly page: boolean;
  readonly withoutText: boolean;
  readonly check: boolean;
  readonly output?: string;
}

export const addReport = (program: Command, act: Act): void => {
  program
    .command('report')
    .description('what a run found, from its own files; also while it is under way')
    .argument('<run...>', "the run's folder, or those of several to see them together")
    .option('--markdown', 'as Markdown, with all comparisons', false)
    .option('--page', "writes the run's report anew: one HTML page, Markdown and JSON", false)
    .option('--without-text', 'with --page: without questions, answers and config, for sharing', false)
    .option('--check', 'recomputes every number from the stored answers and compares files with their hashes', false)
    .option('--output <file>', 'with --page and several runs: where their page is written')
    .action(act(reportCommand));
};

const reportCommand = async (context: CommandContext, folders: readonly string[], given: ReportOptions): Promise<void> => {
  const { terminal } = context;
  const runs: RunFolder[] = [];
  for (const folder of folders) runs.push(await openRun(resolve(terminal.workingFolder, folder)));
  const [run] = runs;
  if (given.output !== undefined && (runs.length === 1 || !given.page))
    throw new UserError('--output says where the page of several runs goes: give it with --page and several folders.');
  if (run !== undefined && runs.length === 1) return reportOne(context, run, given);
  if (given.check || given.markdown) throw new UserError('--check and --markdown are about one run. Give one folder.');
  if (given.page && given.output === undefined)
    throw new UserError('Several runs have no folder in common: say where their page goes, with --output FILE.html.');
  const beside: RunBesideOthers[] = [];
  for (const one of runs) beside.push({ summary: await summariseRun(one), resolvedConfig: await one.resolvedConfig() });
  const summaries = beside.map(({ summary }) => summary);
  if (!given.page) return printResult(context, summaries, renderRuns(beside, reportWidth(terminal)));
  const page = resolve(terminal.workingFolder, given.output ?? '');
  await writeFileAtomic(page, await renderRunsPage(beside));
  printResult(context, { page, summaries }, `${besideText(beside)}\n\nThe page: ${page}`);
};

const reportOne = async (context: CommandContext, run: RunFolder, { markdown, page, withoutText, check }: ReportOptions): Promise<void> => {
  const { terminal, options } = context;
  const task = await taskOf(run);
  if (check) return checkCommand(context, run, task);
  if (page) {
    const written = await writeReport(run, { withoutText, ...(task !== undefined && { task }) });
    printResult(context, written, `${written.summary.headline}\n\nThe page: ${written.page}`);
    return;
  }
  const summary = await summariseRun(run);
  terminal.writeOutput(
    options.json ? renderJson(summary) : markdown ? renderMarkdown(summary) : renderTerminal(summary, reportWidth(terminal)),
  );
};

/** Exit code 1 where anything does not agree. */
const checkCommand = async (context: CommandContext, run: RunFolder, task: Task | undefined): Promise<void> => {
  const check = await checkRun(run, task);
  printResult(context, { sound: isSound(check), ...check }, describeCheck(check));
  if (!isSound(check)) throw new UserError(`The run ${run.name} does not agree with itself: see above. Its report cannot be relied on.`);
};

/** The rules to score the stored answers again by; a task of the user's own is not known by its name. */
export const taskOf = async (run: RunFolder): Promise<Task | undefined> => {
  const { protocol } = await run.manifest();
  return Object.values(tasks).find(({ name }) => name === protocol.task);
};

/** Lines wider than this are hard to read even where the window has room. */
export const reportWidth = ({ columnCount }: Pick<CommandContext['terminal'], 'columnCount'>): number =>
  Math.min(140, Math.max(80, columnCount()));
