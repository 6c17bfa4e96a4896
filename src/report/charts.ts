import { differenceText, measureUnits, percent } from '../evaluation/number-text.ts';
import type { RunSummary, SummaryComparison } from '../evaluation/summary.ts';
import { type Chart, seriesColours } from './chart.ts';
import type { AnswerLengths, TrainingCurve } from './page-data.ts';

/** Long names lose their middle: those of one family differ at their ends. */
const nameLabels = (length: number): object => {
  const half = Math.floor(length / 2);
  const labelExpr = `length(datum.label) <= ${length} ? datum.label : slice(datum.label, 0, ${half - 1}) + '…' + slice(datum.label, -${half})`;
  return { labelExpr, labelLimit: 0 };
};

/** Names along the left side. */
const names = (field: string, isNarrow: boolean): object => ({
  field,
  type: 'nominal',
  title: null,
  sort: null,
  axis: { grid: true, ticks: false, domain: false, ...nameLabels(isNarrow ? 18 : 26) },
});

/** Per cent right with intervals, by group, strict and flexible beside each other; up to `maximum`, for charts that stand beside others. */
export const accuracyChart = ({ groups }: Pick<RunSummary, 'groups'>, maximum?: number): Chart => {
  const values = groups.flatMap(({ label, strict, flexible }) =>
    Object.entries({ strict, flexible }).map(([score, { mean, interval }]) => ({
      label,
      score,
      mean: 100 * mean,
      low: 100 * interval.low,
      high: 100 * interval.high,
    })),
  );
  const scale = { domain: ['strict', 'flexible'], range: ['var(--c0)', 'var(--c1)'] };
  const marks = { yOffset: { field: 'score', sort: scale.domain }, color: { field: 'score', type: 'nominal', scale, title: null } };
  const sharedOf = (isNarrow: boolean) => ({ y: names('label', isNarrow), ...marks });
  return {
    description: `Per cent of test questions right, with 95 % intervals: ${groups.map(({ label, strict, flexible }) => `${label} ${percent(strict.mean)} strict, ${percent(flexible.mean)} flexible`).join('; ')}.`,
    specification: (width, isNarrow) => ({
      width,
      height: { step: 15 },
      data: { values },
      layer: [
        {
          mark: { type: 'rule', strokeWidth: 2 },
          encoding: {
            ...sharedOf(isNarrow),
            x: {
              field: 'low',
              type: 'quantitative',
              title: 'right, %',
              scale: maximum === undefined ? { zero: true } : { domain: [0, maximum], nice: true },
            },
            x2: { field: 'high' },
          },
        },
        {
          mark: { type: 'point', filled: true, size: 60, opacity: 1 },
          encoding: {
            ...sharedOf(isNarrow),
            x: { field: 'mean', type: 'quantitative' },
            shape: { field: 'score', scale: { domain: scale.domain, range: ['circle', 'diamond'] }, title: null },
          },
        },
      ],
    }),
  };
};

/** Differences with intervals around the line of no difference; the planned ones stand out. */
export const differenceChart = (comparisons: readonly SummaryComparison[], baseline: string): Chart | undefined => {
  const [first] = comparisons;
  if (first === undefined) return undefined;
  const { scale, unit } = measureUnits[first.measure];
  const values = comparisons.map((comparison) => ({
    label: comparison.first,
    kind: comparison.isPlanned ? 'planned' : 'exploratory',
    difference: scale * comparison.difference,
    low: scale * comparison.interval.low,
    high: scale * comparison.interval.high,
  }));
  const kinds = { domain: ['planned', 'exploratory'], range: ['var(--c0)', 'var(--muted)'] };
  const color = { field: 'kind', type: 'nominal', scale: kinds, title: null };
  const description = comparisons.map(
    (comparison) =>
      `${comparison.first} ${differenceText(comparison.difference, comparison.measure)} (${differenceText(comparison.interval.low, comparison.measure)} to ${differenceText(comparison.interval.high, comparison.measure)})`,
  );
  return {
    description: `Differences to ${baseline} in ${measureUnits[first.measure].noun}, ${unit}, with 95 % intervals: ${description.join('; ')}.`,
    specification: (width, isNarrow) => ({
      width,
      height: { step: 26 },
      data: { values },
      layer: [
        {
          data: { values: [{ zero: 0 }] },
          mark: { type: 'rule', color: 'var(--ink)' },
          encoding: { x: { field: 'zero', type: 'quantitative' } },
        },
        {
          mark: { type: 'rule', strokeWidth: 2 },
          encoding: {
            y: names('label', isNarrow),
            color,
            x: { field: 'low', type: 'quantitative', title: `difference to ${baseline}, ${unit}` },
            x2: { field: 'high' },
          },
        },
        {
          mark: { type: 'point', filled: true, size: 60, opacity: 1 },
          encoding: { y: names('label', isNarrow), color, x: { field: 'difference', type: 'quantitative' } },
        },
      ],
    }),
  };
};

/** Panels beside each other: on a phone text of more could not be read. */
const panelsPerRow = (isNarrow: boolean): number => (isNarrow ? 1 : 3);

/** Loss of each student over its steps, on the rows it was trained on and on the development rows: a panel an arm, a line a seed. */
export const trainingChart = (curves: readonly TrainingCurve[]): Chart | undefined => {
  if (curves.length === 0) return undefined;
  const labels = [...new Set(curves.map(({ label }) => label))];
  const hasDevelopment = curves.some(({ development }) => development.length > 0);
  const rows = { domain: ['trained on', ...(hasDevelopment ? ['development'] : [])], range: ['var(--c0)', 'var(--c1)'] };
  const values = curves.flatMap(({ name, label, training, development }) =>
    [training, development].flatMap((points, index) =>
      points.map(({ step, loss }) => ({ step, loss, label, line: `${name} ${index}`, rows: rows.domain[index] })),
    ),
  );
  const last = curves.map(({ name, training, development }) => {
    const end = development.at(-1) ?? training.at(-1);
    return end === undefined ? name : `${name} ends at ${end.loss.toFixed(3)}`;
  });
  const color = { field: 'rows', type: 'nominal', scale: rows, title: null };
  const shared = {
    x: { field: 'step', type: 'quantitative', title: 'optimiser step', axis: { tickCount: 3 } },
    y: { field: 'loss', type: 'quantitative', title: null, scale: { zero: false }, axis: { tickCount: 4 } },
    color,
    detail: { field: 'line', type: 'nominal' },
  };
  return {
    description: `Loss over optimiser steps, nats per token, a panel an arm and a line a seed: ${last.join('; ')}.`,
    specification: (width, isNarrow) => ({
      data: { values },
      facet: { field: 'label', type: 'nominal', title: null, sort: labels, header: nameLabels(24) },
      columns: panelsPerRow(isNarrow),
      spacing: { row: 14, column: 8 },
      // The panel of shuffled answers would flatten all others.
      resolve: { scale: { y: 'independent' } },
      spec: {
        width: width / panelsPerRow(isNarrow),
        height: 90,
        layer: [
          { mark: { type: 'line', strokeWidth: 1.25, opacity: 0.9 }, encoding: shared },
          {
            transform: [{ filter: "datum.rows === 'development'" }],
            mark: { type: 'point', filled: true, size: 14, opacity: 1 },
            encoding: shared,
          },
        ],
      },
    }),
  };
};

/** How long answers are: median, middle half, and nine tenths of them. */
export const lengthChart = (lengths: readonly AnswerLengths[]): Chart | undefined => {
  if (lengths.length === 0) return undefined;
  return {
    description: `Tokens of an answer: ${lengths.map(({ label, median, low, high }) => `${label} median ${median}, nine tenths between ${low} and ${high}`).join('; ')}.`,
    specification: (width, isNarrow) => ({
      width,
      height: { step: 22 },
      data: { values: lengths },
      layer: [
        {
          mark: { type: 'rule' },
          encoding: {
            y: names('label', isNarrow),
            x: { field: 'low', type: 'quantitative', title: 'tokens of an answer', scale: { zero: true } },
            x2: { field: 'high' },
          },
        },
        {
          mark: { type: 'rule', strokeWidth: 7 },
          encoding: { y: names('label', isNarrow), x: { field: 'lower', type: 'quantitative' }, x2: { field: 'upper' } },
        },
        {
          mark: { type: 'point', filled: true, shape: 'diamond', size: 70, color: 'var(--ink)', opacity: 1 },
          encoding: { y: names('label', isNarrow), x: { field: 'median', type: 'quantitative' } },
        },
      ],
    }),
  };
};

/** What the teacher read and wrote for the answers of each source. */
export const costChart = ({ collections }: RunSummary): Chart | undefined => {
  const kinds = ['prompts', 'answers'];
  const asked = collections.filter(
    ({ promptTokenCount, completionTokenCount }) => (promptTokenCount ?? 0) + (completionTokenCount ?? 0) > 0,
  );
  if (asked.length === 0) return undefined;
  const values = asked.flatMap(({ source, promptTokenCount = 0, completionTokenCount = 0 }) =>
    [promptTokenCount, completionTokenCount].map((count, index) => ({ source, kind: kinds[index], order: index, count })),
  );
  const costs = asked.map(
    ({ source, promptTokenCount, completionTokenCount, costUsd }) =>
      `${source} ${promptTokenCount ?? 0} of prompts and ${completionTokenCount ?? 0} of answers${costUsd === undefined ? '' : `, ${costUsd.toFixed(4)} USD`}`,
  );
  return barChart(values, kinds, 'tokens', `Tokens that the teacher read and wrote: ${costs.join('; ')}.`);
};

/** What became of the answers that were collected. */
export const collectionChart = ({ collections }: RunSummary): Chart | undefined => {
  const kinds = ['kept', 'failed', 'rejected'];
  const values = collections.flatMap(({ source, keptCount, failedCount, rejectedCount }) =>
    [keptCount, failedCount, rejectedCount].map((count, index) => ({ source, kind: kinds[index], order: index, count })),
  );
  if (values.length === 0) return undefined;
  const became = collections.map(
    ({ source, keptCount, failedCount, rejectedCount }) => `${source} ${keptCount} kept, ${failedCount} failed, ${rejectedCount} rejected`,
  );
  return barChart(values, kinds, 'answers', `Collected training answers: ${became.join('; ')}.`);
};

/** A bar a source, of parts one after the other. */
const barChart = (values: readonly object[], kinds: readonly string[], unit: string, description: string): Chart => ({
  description,
  specification: (width, isNarrow) => ({
    width,
    height: { step: 22 },
    data: { values },
    mark: { type: 'bar', height: { band: 0.7 } },
    encoding: {
      y: names('source', isNarrow),
      x: { field: 'count', type: 'quantitative', title: unit },
      color: { field: 'kind', type: 'nominal', title: null, scale: { domain: kinds, range: seriesColours.slice(0, kinds.length) } },
      order: { field: 'order' },
    },
  }),
});
