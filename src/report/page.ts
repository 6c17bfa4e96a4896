import { describeCheck, isSound } from '../evaluation/check-run.ts';
import { measureUnits } from '../evaluation/number-text.ts';
import { type Chart, renderChart } from './chart.ts';
import { accuracyChart, collectionChart, costChart, differenceChart, lengthChart, trainingChart } from './charts.ts';
import { type Html, html } from './html.ts';
import { methodsParagraph } from './methods-paragraph.ts';
import type { PageData } from './page-data.ts';
import { questionList } from './page-questions.ts';
import { pageScript } from './page-script.ts';
import { pageShell, tableOf, unbroken } from './page-shell.ts';
import { type ReportSection, type ReportTable, reportSections } from './sections.ts';

export interface PageOptions {
  /** Leaves out the texts of questions and answers and the config, for sharing. */
  readonly withoutText?: boolean;
}

/** The report of a run as one HTML file, readable without scripts. */
export const renderPage = async (data: PageData, { withoutText = false }: PageOptions = {}): Promise<string> => {
  const { summary } = data;
  const sections = new Map(reportSections(summary, 'full').map((section) => [section.heading, section]));
  const parts = [
    await accuracyPart(data, sections),
    await differencePart(data, sections),
    await trainingPart(data, sections),
    await answerPart(data),
    await collectionPart(data, sections),
    questionPart(data, withoutText),
    runPart(data, sections, withoutText),
  ].filter((part) => part !== undefined);
  const body = html`<header>
<p class="name">${summary.name} · ${summary.protocol.task} · ${summary.questionCount} test questions</p>
<h1>${unbroken(summary.headline)}</h1>
${summary.protocol.note === undefined ? html`` : html`<p dir="auto">${summary.protocol.note}</p>`}
${noticesOf(data)}
<nav aria-label="Contents">${parts.map(({ id, heading }) => html`<a href="#${id}">${heading}</a> `)}</nav>
</header>
<main>
${parts.map(({ id, heading, content }) => html`<section id="${id}"><h2>${heading}</h2>\n${content}</section>\n`)}
</main>
<footer><p>Every number on this page was computed from the stored answers when it was written. ${describeCheck(data.check, 'page')}</p></footer>
`;
  return pageShell({ title: `${summary.name}: retort report`, body, script: pageScript });
};

interface Part {
  readonly id: string;
  readonly heading: string;
  readonly content: Html;
}

type Sections = ReadonlyMap<string, ReportSection>;

/** What a reader must know before the numbers. */
const noticesOf = ({ summary, check }: PageData): Html => {
  const items = [
    ...(isSound(check) ? [] : [describeCheck(check, 'page')]),
    ...summary.warnings,
    ...summary.unfinished.map(({ stage, state, error }) => `${stage}: ${state}${error === undefined ? '' : ` (${error})`}`),
  ];
  if (items.length === 0) return html``;
  return html`<div class="warning"><strong>Read first</strong><ul>${items.map((item) => html`<li dir="auto">${item}</li>`)}</ul></div>`;
};

const accuracyPart = async ({ summary }: PageData, sections: Sections): Promise<Part | undefined> => {
  if (summary.groups.length === 0) return undefined;
  const section = sections.get('Accuracy');
  // The protocol's note stands at the top of the page already.
  const accuracy = section && { ...section, notes: section.notes.filter((note) => note !== summary.protocol.note) };
  const content = html`${await drawn(accuracyChart(summary))}${sectionBody(accuracy)}${folded('Each student by itself', sections)}`;
  return { id: 'accuracy', heading: 'Accuracy', content };
};

const differencePart = async ({ summary }: PageData, sections: Sections): Promise<Part | undefined> => {
  if (summary.comparisons.length === 0) return undefined;
  const { primaryMeasure, baseline } = summary.protocol;
  const shown = summary.comparisons.filter(({ against, measure }) => against === 'baseline' && measure === primaryMeasure);
  const likelihoods = summary.comparisons.filter(({ against, measure }) => against === 'baseline' && measure === 'likelihood');
  const second =
    primaryMeasure === 'likelihood' || likelihoods.length === 0
      ? html``
      : html`<h3>In ${measureUnits.likelihood.noun}</h3>${await drawn(differenceChart(likelihoods, baseline))}`;
  const content = html`${await drawn(differenceChart(shown, baseline))}${sectionBody(sections.get('Planned comparisons'))}${second}${folded('Exploratory comparisons', sections)}`;
  return { id: 'differences', heading: `Differences to ${baseline}`, content };
};

const trainingPart = async ({ curves }: PageData, sections: Sections): Promise<Part | undefined> => {
  const chart = trainingChart(curves);
  if (chart === undefined) return undefined;
  const table: ReportTable = {
    columns: [
      { name: 'student', align: 'left' },
      { name: 'first loss', align: 'right' },
      { name: 'last loss', align: 'right' },
      { name: 'development, before', align: 'right' },
      { name: 'development, after', align: 'right' },
    ],
    rows: curves.map(({ name, training, development }) => [
      name,
      ...[training.at(0), training.at(-1), development.at(0), development.at(-1)].map((point) => point?.loss.toFixed(3) ?? '–'),
    ]),
  };
  const content = html`<p class="note">Nats per token, a panel an arm, each with its own scale, and a line a seed; long curves are averaged over neighbouring steps.</p>${await drawn(chart)}<details><summary>As a table</summary>${tableOf(table, 'Training')}</details>${folded('What was chosen', sections)}`;
  return { id: 'training', heading: 'Training', content };
};

const answerPart = async ({ lengths }: PageData): Promise<Part | undefined> => {
  const chart = lengthChart(lengths);
  if (chart === undefined) return undefined;
  const table: ReportTable = {
    columns: [
      { name: 'answers of', align: 'left' },
      ...['5 %', '25 %', 'median', '75 %', '95 %'].map((name) => ({ name, align: 'right' as const })),
    ],
    rows: lengths.map(({ label, low, lower, median, upper, high }) => [label, ...[low, lower, median, upper, high].map(String)]),
  };
  const content = html`<p class="note">Tokens of an answer: diamond, the median; thick, the middle half; thin, nine tenths. How often answers were cut off and in the asked form stands under Accuracy.</p>${await drawn(chart)}<details><summary>As a table</summary>${tableOf(table, 'Lengths of answers')}</details>`;
  return { id: 'answers', heading: 'Lengths of answers', content };
};

const collectionPart = async ({ summary }: PageData, sections: Sections): Promise<Part | undefined> => {
  const chart = collectionChart(summary);
  if (chart === undefined) return undefined;
  return {
    id: 'collection',
    heading: 'Training answers',
    content: html`${await drawn(chart)}${await drawn(costChart(summary))}${sectionBody(sections.get('Training answers'))}`,
  };
};

const questionPart = ({ questions, summary }: PageData, withoutText: boolean): Part | undefined => {
  if (questions.questions.length === 0) return undefined;
  return { id: 'questions', heading: 'Questions', content: questionList(questions, summary, withoutText) };
};

const runPart = (data: PageData, sections: Sections, withoutText: boolean): Part => {
  const { text, references } = methodsParagraph(data.summary);
  const times: ReportTable = {
    columns: [
      { name: 'stage', align: 'left' },
      { name: 'state', align: 'left' },
      { name: 'seconds', align: 'right' },
    ],
    rows: data.stages.map(({ name, status, durationMs }) => [
      name,
      status,
      durationMs === undefined ? '–' : (durationMs / 1000).toFixed(1),
    ]),
  };
  const files: ReportTable = {
    columns: [
      { name: 'file', align: 'left' },
      { name: 'SHA-256', align: 'left' },
      { name: 'bytes', align: 'right' },
    ],
    rows: Object.entries(data.files).map(([name, { sha256, sizeBytes }]) => [name, sha256, String(sizeBytes)]),
  };
  const content = html`${sectionBody(sections.get('What was run'))}
<h3>Methods, to paste</h3><p>${text}</p><ol>${references.map((reference) => html`<li>${reference}</li>`)}</ol>
${withoutText ? html`` : html`<details><summary>The config as given</summary><pre>${data.configText}</pre></details>`}
<details><summary>Stages and their times</summary>${tableOf(times, 'Stages')}</details>
<details class="files"><summary>Files and their hashes</summary>${tableOf(files, 'Files')}</details>`;
  return { id: 'run', heading: 'What was run', content };
};

const drawn = async (chart: Chart | undefined): Promise<Html> => (chart === undefined ? html`` : renderChart(chart));

const folded = (heading: string, sections: Sections): Html => {
  const section = sections.get(heading);
  return section === undefined ? html`` : html`<details><summary>${heading}</summary>${sectionBody(section)}</details>`;
};

const sectionBody = (section: ReportSection | undefined): Html => {
  if (section === undefined) return html``;
  const { notes, table, items = [], heading } = section;
  return html`${notes.map((note) => html`<p class="note">${note}</p>`)}${table === undefined ? html`` : tableOf(table, heading)}${items.length === 0 ? html`` : html`<ul>${items.map((item) => html`<li dir="auto">${item}</li>`)}</ul>`}`;
};
