import type { Interval } from '../evaluation/proportion.ts';
import { type Chart, renderChart, seriesScales } from '../report/chart.ts';
import { type Html, html } from '../report/html.ts';
import { pageShell, tableOf } from '../report/page-shell.ts';
import type { ReportTable } from '../report/sections.ts';
import { type AttentionStudy, type FirstColumn, type StudyMeasure, studyMeasures } from './attention-study.ts';

const titles: Readonly<Record<StudyMeasure, string>> = {
  entropy: 'Entropy of rows, nats',
  focus: 'Focus on self: mean of the diagonal',
  sparsity: 'Share of entries above 0.1',
  firstToken: 'Mass on the first column',
  similarityToPreviousLayer: 'Cosine to the same head one layer before',
  similarityToBase: 'Cosine to the base',
};

/** A study as one page: the heads that changed most, and for each measure its curve over layers and its heat maps, with and without the first token. */
export const renderAttentionPage = async (study: AttentionStudy, title: string): Promise<string> => {
  const sections: Html[] = [];
  for (const measure of studyMeasures) {
    const parts: Html[] = [];
    for (const column of ['with', 'without'] as const) {
      if (measure === 'firstToken' && column === 'without') continue;
      const curves = curveChart(study, measure, column);
      if (curves === undefined) continue;
      parts.push(html`<h3>${column} the first token’s column</h3>${await renderChart(curves)}`);
      const maps: Html[] = [];
      for (const { name } of study.subjects) {
        const chart = heatMap(study, name, measure, column);
        if (chart !== undefined) maps.push(await renderChart(chart));
      }
      parts.push(html`<details><summary>Heads by layer</summary>${maps}</details>`);
    }
    if (parts.length > 0) sections.push(html`<section><h2>${titles[measure]}</h2>${parts}</section>`);
  }
  const body = html`<header><p class="name">${title}</p><h1>${attentionHeadline(study)}</h1>
<p class="note">Means over prompts; intervals are 95 %, from the bootstrap over prompts: they speak of other prompts of this kind, not of other trained students.</p></header>
<main>${changedTable(study)}${differingTable(study)}${sections}</main>
`;
  return pageShell({ title: `${title}: attention`, body });
};

/** What the study found, in one sentence; a null result reads as one. */
export const attentionHeadline = ({ promptCount, tokenCount, subjects, changedHeads }: AttentionStudy): string => {
  const amount = `${promptCount} prompts, ${tokenCount} tokens`;
  const [base, ...others] = subjects;
  if (base === undefined || others.length === 0) return `Attention of ${base?.name ?? 'nothing'} over ${amount}.`;
  const [largest] = changedHeads;
  if (largest === undefined || largest.change < 0.01) {
    const arms = others.length > 3 ? `the ${others.length} arms` : others.map(({ name }) => `“${name}”`).join(', ');
    return `No head of ${arms} looks elsewhere than in ${base.name}: the largest change of a map is ${(largest?.change ?? 0).toFixed(4)} (1 − cosine, without the first token); ${amount}.`;
  }
  return `The map that changed most from ${base.name} is that of “${largest.subject}”, layer ${largest.layer}, head ${largest.head}: 1 − cosine is ${largest.change.toFixed(3)} (95 % interval ${largest.interval.low.toFixed(3)} to ${largest.interval.high.toFixed(3)}, without the first token); ${amount}.`;
};

const right = (name: string) => ({ name, align: 'right' as const });
const left = (name: string) => ({ name, align: 'left' as const });
const rangeText = ({ low, high }: Interval): string => `${low.toFixed(4)} to ${high.toFixed(4)}`;

const changedTable = ({ changedHeads }: AttentionStudy): Html => {
  if (changedHeads.length === 0) return html``;
  const table: ReportTable = {
    columns: [left('arm'), ...['layer', 'head', 'change', '95 % interval'].map(right)],
    rows: changedHeads.map(({ subject, layer, head, change, interval }) => [
      subject,
      String(layer),
      String(head),
      change.toFixed(4),
      rangeText(interval),
    ]),
  };
  return html`<section><h2>Heads that changed most</h2><p class="note">1 − cosine between the head’s maps in the arm and in the base, without the first token’s column. The heads are chosen by their size, for which their intervals make no allowance.</p>
${tableOf(table, 'Heads that changed most')}</section>`;
};

const differingTable = ({ differingHeads }: AttentionStudy): Html => {
  if (differingHeads.length === 0) return html``;
  const table: ReportTable = {
    columns: [
      ...['layer', 'head'].map(right),
      left('moved least in'),
      left('moved most in'),
      ...['difference', '95 % interval'].map(right),
    ],
    rows: differingHeads.map(({ layer, head, least, most, difference, interval }) => [
      String(layer),
      String(head),
      least,
      most,
      difference.toFixed(4),
      rangeText(interval),
    ]),
  };
  return html`<section><h2>Heads on which arms differ most</h2><p class="note">How much farther from the base the head’s maps moved in one arm than in another, on the same prompts; heads and arms are chosen by the size of the difference, for which the intervals make no allowance.</p>
${tableOf(table, 'Heads on which arms differ most')}</section>`;
};

const curveChart = ({ subjects }: AttentionStudy, measure: StudyMeasure, column: FirstColumn): Chart | undefined => {
  const values = subjects.flatMap(({ name, measures }) =>
    (measures[column][measure]?.layers ?? []).flatMap(({ mean, interval }, layer) =>
      Number.isNaN(mean) ? [] : [{ name, layer, mean, low: interval.low, high: interval.high }],
    ),
  );
  if (values.length === 0) return undefined;
  const names = [...new Set(values.map(({ name }) => name))];
  const { colour, dash } = seriesScales(names);
  const legend = { symbolOpacity: 1, symbolType: 'stroke', symbolSize: 160 };
  const color = { field: 'name', type: 'nominal', scale: colour, sort: names, title: null, legend };
  const x = { field: 'layer', type: 'quantitative', title: 'layer', axis: { tickMinStep: 1 } };
  const last = names.map((name) => `${name} ${values.findLast((value) => value.name === name)?.mean.toFixed(3)} in the last layer`);
  return {
    description: `${titles[measure]}, ${column} the first token’s column, mean over heads by layer with 95 % intervals over prompts: ${last.join('; ')}.`,
    specification: (width) => ({
      width,
      height: 170,
      data: { values },
      layer: [
        {
          mark: { type: 'area', opacity: 0.2 },
          encoding: { x, y: { field: 'low', type: 'quantitative', title: null, scale: { zero: false } }, y2: { field: 'high' }, color },
        },
        {
          mark: { type: 'line', strokeWidth: 1.5 },
          encoding: {
            x,
            y: { field: 'mean', type: 'quantitative' },
            color,
            strokeDash: { field: 'name', scale: dash, sort: names, title: null },
          },
        },
      ],
    }),
  };
};

const heatMap = ({ subjects }: AttentionStudy, name: string, measure: StudyMeasure, column: FirstColumn): Chart | undefined => {
  const heads = subjects.find((subject) => subject.name === name)?.measures[column][measure]?.heads;
  const values = (heads ?? []).flatMap((row, layer) => row.flatMap((value, head) => (Number.isNaN(value) ? [] : [{ layer, head, value }])));
  if (values.length === 0) return undefined;
  const sorted = values.map(({ value }) => value).sort((a, b) => a - b);
  // One scale for all subjects: the same colour is the same number.
  const all = subjects
    .flatMap((subject) => (subject.measures[column][measure]?.heads ?? []).flat())
    .filter((value) => !Number.isNaN(value));
  const domain = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
  return {
    description: `${titles[measure]} of ${name}, ${column} the first token’s column, for each head of each layer: from ${sorted[0]?.toFixed(3)} to ${sorted.at(-1)?.toFixed(3)}.`,
    specification: (width) => ({
      title: name,
      width,
      height: { step: 12 },
      data: { values },
      mark: { type: 'rect' },
      encoding: {
        x: { field: 'layer', type: 'ordinal', title: 'layer', axis: { labelOverlap: true, labelAngle: 0 } },
        y: { field: 'head', type: 'ordinal', title: 'head' },
        color: { field: 'value', type: 'quantitative', title: null, scale: { scheme: 'viridis', domain } },
      },
    }),
  };
};
