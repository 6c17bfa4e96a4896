import type { Html } from './html.ts';
import { html, trusted } from './html.ts';

declare module 'vega' {
  /** Exported, and left out of vega's types: how wide a text is drawn. */
  export const textMetrics: { width: (item: { readonly fontSize?: number }, text: unknown) => number };
}

/** A chart for a width in pixels, as a vega-lite specification. */
export interface Chart {
  /** What the chart shows, for those who do not see it; the numbers stand in a table beside it. */
  readonly description: string;
  readonly specification: (width: number, isNarrow: boolean) => object;
}

/** Two drawings of each chart, for screens and for phones: text in a scaled-down drawing could not be read. */
const drawings = [
  { name: 'wide', width: 560, isNarrow: false },
  { name: 'narrow', width: 205, isNarrow: true },
] as const;

/** Draws a chart as SVG without a browser. Colours are the page's variables, so that light and dark are the page's matter. */
export const renderChart = async (chart: Chart): Promise<Html> => {
  const images = await Promise.all(
    drawings.map(async ({ name, width, isNarrow }) => {
      const svg = await drawSvg({ ...chart.specification(width, isNarrow), config: chartStyle(isNarrow) });
      return html`<div class="${name}">${trusted(labelled(svg, chart.description))}</div>`;
    }),
  );
  return html`<figure>${images}</figure>`;
};

/** vega is large: it is loaded when a page is drawn, not when the command line starts. */
const drawSvg = async (specification: object): Promise<string> => {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]);
  const { spec } = vegaLite.compile(specification as Parameters<typeof vegaLite.compile>[0]);
  vega.textMetrics.width = textWidth;
  const view = new vega.View(vega.parse(spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
};

/** Without a canvas vega takes every character for 0.8 of the font's size, and so cuts labels that have room: system-ui's come to 0.55. */
const textWidth = ({ fontSize = 12 }: { readonly fontSize?: number }, text: unknown): number =>
  0.6 * fontSize * [...String(text ?? '')].length;

/** One image with one description: the roles that vega gives to every axis and mark would be read out one by one. */
const labelled = (svg: string, description: string): string =>
  svg
    .replace(/ (?:role|aria-[a-z]+)="[^"]*"/g, '')
    .replace(/^<svg/, html`<svg role="img" aria-label="${description}"`.html)
    .replace(/ xmlns:xlink="[^"]*"/, '');

const chartStyle = (isNarrow: boolean) => ({
  background: null,
  font: 'system-ui, sans-serif',
  padding: 4,
  view: { stroke: null },
  axis: {
    labelColor: 'var(--ink)',
    titleColor: 'var(--ink)',
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    gridColor: 'var(--line)',
    domainColor: 'var(--line)',
    tickColor: 'var(--line)',
    labelLimit: isNarrow ? 130 : 190,
    tickCount: isNarrow ? 3 : 6,
  },
  legend: {
    orient: 'top',
    labelColor: 'var(--ink)',
    titleColor: 'var(--ink)',
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    labelLimit: isNarrow ? 110 : 200,
    columns: isNarrow ? 2 : 4,
    symbolStrokeWidth: 2,
  },
  header: { labelColor: 'var(--ink)', labelFontSize: 12, labelAnchor: 'start', titleColor: 'var(--ink)' },
  title: { color: 'var(--ink)', fontSize: 13, fontWeight: 'normal', anchor: 'start' },
  mark: { color: 'var(--c0)' },
  rule: { color: 'var(--c0)' },
});

/** Colours by index; with more series than colours the dashes change. */
export const seriesColours = Array.from({ length: 8 }, (_, index) => `var(--c${index})`);
export const seriesDashes: readonly (readonly number[])[] = [
  [1, 0],
  [6, 3],
  [2, 2],
];

/** Scales that give each series its colour and dash, the same in every chart. */
export const seriesScales = (labels: readonly string[]) => ({
  colour: { domain: [...labels], range: labels.map((_, index) => seriesColours[index % seriesColours.length]) },
  dash: {
    domain: [...labels],
    range: labels.map((_, index) => seriesDashes[Math.floor(index / seriesColours.length) % seriesDashes.length]),
  },
});
