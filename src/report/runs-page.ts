import { renderChart } from './chart.ts';
import { accuracyChart } from './charts.ts';
import { type Html, html } from './html.ts';
import { pageShell, tableOf, unbroken } from './page-shell.ts';
import { besideText, differenceTable, groupTable, type RunBesideOthers } from './render-runs.ts';
import { reportSections } from './sections.ts';

/** Several runs on one page: what each found, their accuracies on one scale and in one table, their planned comparisons, and in what their configs differ. */
export const renderRunsPage = async (runs: readonly RunBesideOthers[]): Promise<string> => {
  const names = runs.map(({ summary }) => summary.name);
  const highest = runs.flatMap(({ summary }) =>
    summary.groups.flatMap(({ strict, flexible }) => [100 * strict.interval.high, 100 * flexible.interval.high]),
  );
  const charts: Html[] = [];
  for (const { summary } of runs.filter(({ summary: { groups } }) => groups.length > 0)) {
    charts.push(html`<h3>${summary.name}</h3>${await renderChart(accuracyChart(summary, Math.max(...highest)))}`);
  }
  const differences = differenceTable(runs);
  const body = html`<header>
<p class="name">${names.join(' · ')}</p>
<h1>${unbroken(besideText(runs))}</h1>
</header>
<main>
<section><h2>What each found</h2>${runs.map(findingOf)}</section>
<section><h2>Accuracy</h2>${charts}${tableOf(groupTable(runs), 'Accuracy')}</section>
<section><h2>Planned comparisons</h2>${runs.map(plannedOf)}</section>
<section><h2>In what the configs differ</h2>${differences.rows.length === 0 ? html`<p>In nothing.</p>` : tableOf(differences, 'In what the configs differ')}</section>
</main>
<footer><p>Every number on this page was computed from the stored answers when it was written. Each run has a page of its own, with its questions and files.</p></footer>
`;
  return pageShell({ title: `${names.join(', ')}: retort report`, body });
};

const findingOf = ({ summary: { name, headline, protocol, warnings } }: RunBesideOthers): Html =>
  html`<h3>${name}</h3><p>${unbroken(headline)}</p>${protocol.note === undefined ? html`` : html`<p class="note" dir="auto">${protocol.note}</p>`}${
    warnings.length === 0 ? html`` : html`<ul class="warning">${warnings.map((warning) => html`<li dir="auto">${warning}</li>`)}</ul>`
  }`;

const plannedOf = ({ summary }: RunBesideOthers): Html => {
  const section = reportSections(summary, 'full').find(({ heading }) => heading === 'Planned comparisons');
  if (section?.table === undefined) return html`<h3>${summary.name}</h3><p>Nothing was planned.</p>`;
  return html`<h3>${summary.name}</h3>${section.notes.map((note) => html`<p class="note">${note}</p>`)}${tableOf(section.table, `Planned comparisons of ${summary.name}`)}`;
};
