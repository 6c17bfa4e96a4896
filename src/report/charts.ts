import { differenceText, measureUnits, percent } from '../evaluation/number-text.ts';
import type { RunSummary, SummaryComparison } from '../evaluation/summary.ts';
import { type Chart, seriesScales } from './chart.ts';
import type { AnswerLengths, TrainingCurve } from './page-data.ts';

/** Per cent right with intervals, by group, strict and flexible beside each other. */
export const accuracyChart = ({ groups }: RunSummary): Chart => {
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
  const y = { field: 'label', type: 'nominal', title: null, sort: null, axis: { grid: true, ticks: false, domain: false } };
  const shared = { y, yOffset: { field: 'score', sort: scale.domain }, color: { field: 'score', type: 'nominal', scale, title: null } };
  return {
    description: `Per cent of test questions right, with 95 % intervals: ${groups.map(({ label, strict, flexible }) => `${label} ${percent(strict.mean)} strict, ${percent(flexible.mean)} flexible`).join('; ')}.`,
    specification: (width) => ({
      width,
      height: { step: 15 },
      data: { values },
      layer: [
        {
          mark: { type: 'rule', strokeWidth: 2 },
          encoding: {
            ...shared,
            x: { field: 'low', type: 'quantitative', title: 'right, %', scale: { zero: true } },
            x2: { field: 'high' },
          },
        },
        {
          mark: { type: 'point', filled: true, size: 60, opacity: 1 },
          encoding: {
            ...shared,
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
  const y = { field: 'label', type: 'nominal', title: null, sort: null, axis: { grid: true, ticks: false, domain: false } };
  const kinds = { domain: ['planned', 'exploratory'], range: ['var(--c0)', 'var(--muted)'] };
  const color = { field: 'kind', type: 'nominal', scale: kinds, title: null };
  const description = comparisons.map(
    (comparison) =>
      `${comparison.first} ${differenceText(comparison.difference, comparison.measure)} (${differenceText(comparison.interval.low, comparison.measure)} to ${differenceText(comparison.interval.high, comparison.measure)})`,
  );
  return {
    description: `Differences to ${baseline} in ${measureUnits[first.measure].noun}, ${unit}, with 95 % intervals: ${description.join('; ')}.`,
    specification: (width) => ({
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
            y,
            color,
            x: { field: 'low', type: 'quantitative', title: `difference to ${baseline}, ${unit}` },
            x2: { field: 'high' },
          },
        },
        {
          mark: { type: 'point', filled: true, size: 60, opacity: 1 },
          encoding: { y, color, x: { field: 'difference', type: 'quantitative' } },
        },
      ],
    }),
  };
};

/** Loss of each student over its steps: on the rows it was trained on, and on the development rows. */
export const trainingChart = (curves: readonly TrainingCurve[]): Chart | undefined => {
  if (curves.length === 0) return undefined;
  const labels = [...new Set(curves.map(({ label }) => label))];
  const { colour, dash } = seriesScales(labels);
  const panel = (name: string, values: readonly object[], width: number) => ({
    title: name,
    width,
    height: 180,
    data: { values },
    mark: { type: 'line', strokeWidth: 1.5, opacity: 0.9 },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: 'optimiser step' },
      y: { field: 'loss', type: 'quantitative', title: 'nats per token', scale: { zero: false } },
      color: { field: 'label', type: 'nominal', scale: colour, sort: labels, title: null },
      strokeDash: { field: 'label', type: 'nominal', scale: dash, sort: labels, title: null },
      detail: { field: 'student', type: 'nominal' },
    },
  });
  const flatten = (of: (curve: TrainingCurve) => TrainingCurve['training']) =>
    curves.flatMap((curve) => of(curve).map(({ step, loss }) => ({ step, loss, label: curve.label, student: curve.name })));
  const training = flatten((curve) => curve.training);
  const development = flatten((curve) => curve.development);
  const last = curves.map(({ name, training: points, development: held }) => {
    const end = held.at(-1) ?? points.at(-1);
    return end === undefined ? name : `${name} ends at ${end.loss.toFixed(3)}`;
  });
  return {
    description: `Loss over optimiser steps, nats per token, one line a student: ${last.join('; ')}.`,
    specification: (width) => ({
      vconcat: [
        ...(training.length === 0 ? [] : [panel('on the rows trained on', training, width)]),
        ...(development.length === 0 ? [] : [panel('on the development rows', development, width)]),
      ],
      resolve: { scale: { color: 'shared', strokeDash: 'shared' } },
    }),
  };
};

/** How long answers are: median, middle half, and nine tenths of them. */
export const lengthChart = (lengths: readonly AnswerLengths[]): Chart | undefined => {
  if (lengths.length === 0) return undefined;
  const y = { field: 'label', type: 'nominal', title: null, sort: null, axis: { grid: true, ticks: false, domain: false } };
  return {
    description: `Tokens of an answer: ${lengths.map(({ label, median, low, high }) => `${label} median ${median}, nine tenths between ${low} and ${high}`).join('; ')}.`,
    specification: (width) => ({
      width,
      height: { step: 22 },
      data: { values: lengths },
      layer: [
        {
          mark: { type: 'rule' },
          encoding: {
            y,
            x: { field: 'low', type: 'quantitative', title: 'tokens of an answer', scale: { zero: true } },
            x2: { field: 'high' },
          },
        },
        { mark: { type: 'rule', strokeWidth: 7 }, encoding: { y, x: { field: 'lower', type: 'quantitative' }, x2: { field: 'upper' } } },
        {
          mark: { type: 'point', filled: true, shape: 'diamond', size: 70, color: 'var(--ink)', opacity: 1 },
          encoding: { y, x: { field: 'median', type: 'quantitative' } },
        },
      ],
    }),
  };
};

/** What became of the answers that were collected. */
export const collectionChart = ({ collections }: RunSummary): Chart | undefined => {
  const kinds = ['kept', 'failed', 'rejected'];
  const values = collections.flatMap(({ source, keptCount, failedCount, rejectedCount }) =>
    [keptCount, failedCount, rejectedCount].map((count, index) => ({ source, kind: kinds[index], order: index, count })),
  );
  if (values.length === 0) return undefined;
  return {
    description: `Collected training answers: ${collections.map(({ source, keptCount, failedCount, rejectedCount }) => `${source} ${keptCount} kept, ${failedCount} failed, ${rejectedCount} rejected`).join('; ')}.`,
    specification: (width) => ({
      width,
      height: { step: 22 },
      data: { values },
      mark: { type: 'bar', height: { band: 0.7 } },
      encoding: {
        y: { field: 'source', type: 'nominal', title: null, sort: null, axis: { ticks: false, domain: false } },
        x: { field: 'count', type: 'quantitative', title: 'answers' },
        color: { field: 'kind', type: 'nominal', title: null, scale: { domain: kinds, range: ['var(--c0)', 'var(--c1)', 'var(--c2)'] } },
        order: { field: 'order' },
      },
    }),
  };
};
