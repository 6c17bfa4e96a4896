import { percent } from '../evaluation/number-text.ts';
import type { GroupMean, RunSummary } from '../evaluation/summary.ts';
import { configDifferences } from '../run-folder/compare-configs.ts';
import type { Json } from '../run-folder/manifest.ts';
import { tableLines, wrap } from './render-text.ts';
import type { ReportTable } from './sections.ts';

export interface RunBesideOthers {
  readonly summary: RunSummary;
  readonly resolvedConfig: Json;
}

/** Several runs beside each other, for the terminal: what each found, their rows in one table, and in what their configs differ. */
export const renderRuns = (runs: readonly RunBesideOthers[], width = 120): string => {
  const findings = runs.flatMap(({ summary }) => {
    const [first = '', ...rest] = wrap(`${summary.name}: ${summary.headline}`, width - 2);
    return [first, ...rest.map((line) => `  ${line}`)];
  });
  return [
    besideText(runs),
    '',
    ...findings,
    '',
    ...tableLines(groupTable(runs), width),
    ...(runs.length > 1 ? ['', 'In what the configs differ', ...tableLines(differenceTable(runs), width)] : []),
    '',
  ].join('\n');
};

/** Whether the runs' numbers may be compared at all. */
export const besideText = (runs: readonly RunBesideOthers[]): string => {
  const hashes = new Set(runs.map(({ summary }) => summary.questionsHash));
  return hashes.size === 1
    ? `${runs.length} runs over the same ${runs[0]?.summary.questionCount ?? 0} test questions. Between runs nothing was planned: use retort compare on their answers for one that is.`
    : `${runs.length} runs over different test questions: their numbers stand beside each other and must not be compared.`;
};

export const groupTable = (runs: readonly RunBesideOthers[]): ReportTable => ({
  columns: [
    { name: 'run', align: 'left' },
    { name: 'answers of', align: 'left' },
    ...['questions', 'seeds', 'strict %', 'flexible %', 'gold'].map((name) => ({ name, align: 'right' as const })),
  ],
  rows: runs.flatMap(({ summary }) =>
    summary.groups.map(({ label, kind, rowNames, strict, flexible, likelihood }) => [
      summary.name,
      label,
      String(summary.questionCount),
      kind === 'arm' ? String(rowNames.length) : '–',
      meanText(strict),
      meanText(flexible),
      likelihood === undefined ? '–' : `${likelihood.mean < 0 ? '−' : ''}${Math.abs(likelihood.mean).toFixed(3)}`,
    ]),
  ),
});

const meanText = ({ mean, interval }: GroupMean): string => `${percent(mean)} (${percent(interval.low)} to ${percent(interval.high)})`;

/** Every setting in which any run differs from the first. */
export const differenceTable = (runs: readonly RunBesideOthers[]): ReportTable => {
  const [first, ...others] = runs;
  const paths = [
    ...new Set(others.flatMap(({ resolvedConfig }) => configDifferences(first?.resolvedConfig, resolvedConfig).map(({ path }) => path))),
  ];
  return {
    columns: [{ name: 'setting', align: 'left' }, ...runs.map(({ summary }) => ({ name: summary.name, align: 'left' as const }))],
    rows: paths.map((path) => [path, ...runs.map(({ resolvedConfig }) => settingText(resolvedConfig, path))]),
  };
};

const settingText = (config: Json, path: string): string => {
  const value = leafAt(config, path);
  const text = value === undefined ? '–' : JSON.stringify(value);
  return text.length <= 30 ? text : `${text.slice(0, 29)}…`;
};

/** The value at a path as `configDifferences` writes it: `arms[0].name`. */
const leafAt = (config: Json, path: string): Json | undefined => {
  let at: Json | undefined = config;
  for (const [, key, index] of path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)) {
    if (at === null || typeof at !== 'object') return undefined;
    at = Array.isArray(at) ? (index === undefined ? undefined : at[Number(index)]) : key === undefined ? undefined : at[key];
  }
  return at;
};
