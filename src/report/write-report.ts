import { join } from 'node:path';
import { writeFileAtomic, writeJsonAtomic } from '../base/folders.ts';
import type { RunSummary } from '../evaluation/summary.ts';
import { hashOf } from '../run-folder/compare-configs.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { runStage, stageNames } from '../run-folder/stage.ts';
import { type PageOptions, renderPage } from './page.ts';
import { type PageDataOptions, readPageData } from './page-data.ts';
import { renderMarkdown } from './render-text.ts';

export interface WrittenReport {
  readonly summary: RunSummary;
  readonly page: string;
  readonly markdown: string;
  readonly json: string;
}

/** Recomputes a run's report from its stored answers, writes it in every form into `report/`, and records the files' hashes. */
export const writeReport = async (run: RunFolder, options: PageDataOptions & PageOptions = {}): Promise<WrittenReport> => {
  const data = await readPageData(run, options);
  const page = join(run.paths.report, 'index.html');
  const markdown = join(run.paths.report, 'report.md');
  const json = join(run.paths.report, 'summary.json');
  const text = await renderPage(data, options);
  await runStage(run, { name: stageNames.report, key: { page: hashOf(text) } }, async () => {
    await writeFileAtomic(page, text);
    await writeFileAtomic(markdown, renderMarkdown(data.summary));
    await writeJsonAtomic(json, data.summary);
    return { files: [page, markdown, json], facts: {} };
  });
  return { summary: data.summary, page, markdown, json };
};
