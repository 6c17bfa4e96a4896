import { resolve } from 'node:path';
import type { Command } from 'commander';
import { summariseRun } from '../../evaluation/summarise-run.ts';
import { renderJson, renderMarkdown, renderTerminal } from '../../report/render-text.ts';
import { openRun } from '../../run-folder/run-folder.ts';
import type { Act, CommandContext } from '../command-context.ts';

export const addReport = (program: Command, act: Act): void => {
  program
    .command('report')
    .description('what a run found, from its own files; also while it is under way')
    .argument('<run>', "the run's folder")
    .option('--markdown', 'as Markdown, with all comparisons')
    .action(act(reportCommand));
};

const reportCommand = async (
  { terminal, options }: CommandContext,
  folder: string,
  { markdown }: { markdown?: boolean },
): Promise<void> => {
  const summary = await summariseRun(await openRun(resolve(terminal.workingFolder, folder)));
  terminal.writeOutput(
    options.json ? renderJson(summary) : markdown === true ? renderMarkdown(summary) : renderTerminal(summary, reportWidth(terminal)),
  );
};

/** Lines wider than this are hard to read even where the window has room. */
export const reportWidth = ({ columnCount }: Pick<CommandContext['terminal'], 'columnCount'>): number =>
  Math.min(140, Math.max(80, columnCount()));
