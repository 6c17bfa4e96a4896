import { detectableText, differenceRange, differenceText, measureUnits, percent, pValueText } from '../evaluation/number-text.ts';
import type { Interval } from '../evaluation/proportion.ts';
import type {
  GroupMean,
  RunSummary,
  Share,
  SummaryCollection,
  SummaryComparison,
  SummaryGroup,
  SummaryRow,
  SummarySearch,
} from '../evaluation/summary.ts';

/** One part of a report, in a form that terminal, Markdown and page render alike. */
export interface ReportSection {
  readonly heading: string;
  /** What the numbers are and how to read them. */
  readonly notes: readonly string[];
  readonly table?: ReportTable;
  readonly items?: readonly string[];
}

export interface ReportTable {
  readonly columns: readonly { readonly name: string; readonly align: 'left' | 'right' }[];
  /** A cell for each column; `–` where there is nothing to show. */
  readonly rows: readonly (readonly string[])[];
}

/**
 * Everything below the headline, in reading order. Parts without content are left out. `brief` leaves out the comparisons that a screen has
 * no room for: those with the untouched student in other measures than the declared one.
 */
export const reportSections = (summary: RunSummary, detail: 'brief' | 'full'): ReportSection[] =>
  [
    accuracySection(summary),
    differenceSection(summary, 'planned', detail),
    differenceSection(summary, 'exploratory', detail),
    studentSection(summary),
    searchSection(summary),
    collectionSection(summary),
    {
      heading: 'Warnings',
      notes: [],
      items: summary.warnings,
    },
    {
      heading: 'Not finished',
      notes: [],
      items: summary.unfinished.map(({ stage, state, error }) => `${stage}: ${state}${error === undefined ? '' : ` (${error})`}`),
    },
    runSection(summary),
  ].filter(({ table, items }) => (table === undefined ? (items?.length ?? 0) > 0 : table.rows.length > 0));

const none = '–';
const left = (name: string) => ({ name, align: 'left' as const });
const right = (name: string) => ({ name, align: 'right' as const });

const accuracySection = ({ groups, questionCount, protocol }: RunSummary): ReportSection => {
  const hasEndless = groups.some(({ format }) => format.neverStopsCount > 0);
  const hasLikelihood = groups.some(({ likelihood }) => likelihood !== undefined);
  return {
    heading: 'Accuracy',
    notes: [
      ...(protocol.note === undefined ? [] : [protocol.note]),
      `${questionCount} questions of ${protocol.task}; ${protocol.primaryMeasure} decides, as declared in the config. Per cent with 95 % intervals: one seed Wilson's, several seeds over questions` +
        `${groups.some(({ strict }) => strict.generality === 'questions and seeds') ? ' and seeds' : ' (conditional on these seeds below five)'}.`,
      'in format: answers of the form that the instruction asks for; of those: strictly right among them; cut off: by the token limit' +
        `${hasEndless ? '; no end: of all answers those cut off that went on after their final answer or repeated themselves' : ''}` +
        `${hasLikelihood ? '; gold: log-likelihood of the held-out solutions, nats per token' : ''}.`,
      ...(groups.some(({ kind, variant }) => kind === 'untouched' && variant !== undefined)
        ? ["untouched: NAME: the student as it came, asked under that arm's priming; untouched: K shots: after K worked examples."]
        : []),
    ],
    table: {
      columns: [
        left('answers of'),
        right('seeds'),
        right('strict %'),
        right('flexible %'),
        right('in format'),
        right('of those'),
        right('cut off'),
        ...(hasEndless ? [right('no end')] : []),
        right('tokens'),
        ...(hasLikelihood ? [right('gold')] : []),
      ],
      rows: groups.map((group) => [
        group.isBaseline ? `${group.label} (baseline)` : group.label,
        group.kind === 'arm' ? String(group.rowNames.length) : none,
        meanCell(group.strict),
        meanCell(group.flexible),
        ...formCells(group, hasEndless),
        ...(hasLikelihood ? [group.likelihood === undefined ? none : differenceless(group.likelihood.mean)] : []),
      ]),
    },
  };
};

const meanCell = ({ mean, interval }: GroupMean): string => `${percent(mean)} (${range(interval)})`;

const range = ({ low, high }: Interval): string => `${percent(low)} to ${percent(high)}`;

/** A log-likelihood: no sign of difference, but a true minus. */
const differenceless = (value: number): string => `${value < 0 ? '−' : ''}${Math.abs(value).toFixed(3)}`;

const formCells = ({ format }: SummaryGroup, hasEndless: boolean): string[] => [
  format.answerCount === 0 ? none : `${percent(format.followsFormatCount / format.answerCount)} %`,
  format.followsFormatCount === 0 ? none : `${percent(format.rightInFormatCount / format.followsFormatCount)} %`,
  format.knownEndCount === 0 ? none : `${percent(format.cutOffCount / format.knownEndCount)} %`,
  ...(hasEndless ? [format.knownEndCount === 0 ? none : `${percent(format.neverStopsCount / format.knownEndCount)} %`] : []),
  format.knownLengthCount === 0 ? none : (format.tokenCount / format.knownLengthCount).toFixed(0),
];

const differenceSection = (
  { comparisons, protocol }: RunSummary,
  kind: 'planned' | 'exploratory',
  detail: 'brief' | 'full',
): ReportSection => {
  const shown = comparisons.filter(
    ({ isPlanned, against, measure }) =>
      isPlanned === (kind === 'planned') &&
      (detail === 'full' || against === 'baseline' || (against === 'untouched' && measure === protocol.primaryMeasure)),
  );
  const isPlanned = kind === 'planned';
  const tests = [...new Set(shown.map(({ test }) => test))].join(', ');
  return {
    heading: isPlanned ? 'Planned comparisons' : 'Exploratory comparisons',
    notes: isPlanned
      ? [
          `Against ${protocol.baseline} in ${measureUnits[protocol.primaryMeasure].noun}; p: ${tests}; corrected: Holm over this family.`,
          'detectable: the true difference that these questions and seeds would find four times in five, given the variation seen.',
        ]
      : ['Everything else, uncorrected: a small p here is a question for the next run, not an answer.'],
    table: {
      columns: [
        left('difference'),
        ...(isPlanned ? [] : [left('measure')]),
        right('seeds'),
        right('estimate'),
        right('95 % interval'),
        right('p'),
        ...(isPlanned ? [right('corrected')] : []),
        right('detectable'),
        left('unit'),
      ],
      rows: shown.map((comparison) => differenceRow(comparison, isPlanned)),
    },
  };
};

const differenceRow = (comparison: SummaryComparison, isPlanned: boolean): string[] => {
  const { first, second, measure, seedCount, difference, interval, pValue, adjustedPValue, detectable } = comparison;
  const { unit } = measureUnits[measure];
  return [
    `${first} − ${second}`,
    ...(isPlanned ? [] : [measure]),
    String(seedCount),
    differenceText(difference, measure),
    differenceRange(interval, measure),
    pValueText(pValue),
    ...(isPlanned ? [adjustedPValue === undefined ? none : pValueText(adjustedPValue)] : []),
    detectableText(detectable, measure),
    unit,
  ];
};

const studentSection = ({ rows, groups, protocol }: RunSummary): ReportSection => {
  // Where the last weights are the student, the step says nothing.
  const hasKept = rows.some(({ training }) => training?.keptStep !== undefined && training.keptStep !== training.stepCount);
  return {
    heading: 'Each student by itself',
    notes: [
      `right: with Wilson's 95 % interval. vs ${protocol.baseline}, vs untouched: questions that only this one : only the other got strictly right, with McNemar's exact p.`,
      ...(hasKept ? ['kept: the step whose weights are the student, by its loss on the development questions.'] : []),
    ],
    table: {
      columns: [
        left('student'),
        right('strictly right'),
        right('flexibly right'),
        right(`vs ${protocol.baseline}`),
        right('vs untouched'),
        right('trained tokens'),
        ...(hasKept ? [right('kept')] : []),
      ],
      rows: rows.map((row) => [
        rowLabel(row, groups),
        shareCell(row.strict),
        shareCell(row.flexible),
        pairCell(row.versusBaseline?.strict),
        pairCell(row.versusUntouched?.strict),
        row.training?.trainedTokenCount === undefined ? none : String(row.training.trainedTokenCount),
        ...(hasKept ? [keptCell(row)] : []),
      ]),
    },
  };
};

const keptCell = ({ training }: SummaryRow): string =>
  training?.keptStep === undefined ? none : `${training.keptStep} of ${training.stepCount ?? none}`;

/** `teacher, seed 0` */
const rowLabel = ({ name, subject }: SummaryRow, groups: readonly SummaryGroup[]): string => {
  const label = groups.find(({ rowNames }) => rowNames.includes(name))?.label ?? name;
  return subject.kind === 'arm' ? `${label}, seed ${subject.arm.seed}` : label;
};

const shareCell = ({ count, total, interval }: Share): string => `${count}/${total} (${range(interval)})`;

const pairCell = (pair: NonNullable<SummaryRow['versusBaseline']>['strict'] | undefined): string =>
  pair === undefined ? none : `${pair.onlyFirstCount}:${pair.onlySecondCount}, ${pValueText(pair.pValue)}`;

const searchSection = ({ searches }: RunSummary): ReportSection => ({
  heading: 'What was chosen',
  notes: searches.map(
    ({ stage, arm, rowCount, judgingRowCount, judgedOn, candidates }) =>
      `${stage}: ${candidates.length} candidates, each trained on ${rowCount} rows of ${arm} and judged by the loss on ` +
      (judgedOn === 'test'
        ? `${judgingRowCount} TEST questions: the students are measured on what they were chosen by.`
        : `${judgingRowCount} development questions of the training split, before the test questions were opened.`),
  ),
  table: {
    columns: [left('choice'), left('candidate'), right('loss'), right('steps'), right('trained tokens'), left('')],
    rows: searches.flatMap((search) => search.candidates.map((candidate) => candidateRow(search, candidate))),
  },
});

const candidateRow = (search: SummarySearch, candidate: SummarySearch['candidates'][number]): string[] => {
  const settings = ['learningRate', 'epochs', 'alpha', 'temperature'] as const;
  const names = { learningRate: 'learning rate', epochs: 'epochs', alpha: 'α', temperature: 'T' };
  const isChosen = settings.every((name) => candidate[name] === search[name]);
  return [
    search.stage,
    settings.flatMap((name) => (candidate[name] === undefined ? [] : [`${names[name]} ${candidate[name]}`])).join(', '),
    candidate.developmentLoss?.toFixed(4) ?? none,
    String(candidate.stepCount ?? none),
    String(candidate.trainedTokenCount ?? none),
    isChosen ? 'chosen' : candidate.lost === undefined ? '' : `lost: ${candidate.lost}`,
  ];
};

const collectionSection = ({ collections, groups }: RunSummary): ReportSection => {
  const cells: Readonly<Record<string, (collection: SummaryCollection) => string>> = {
    right: ({ rightCount, keptCount, rejectedCount }) => (rightCount === undefined ? none : `${rightCount}/${keptCount + rejectedCount}`),
    kept: ({ keptCount }) => countCell(keptCount),
    questions: ({ answeredQuestionCount }) => countCell(answeredQuestionCount),
    failed: ({ failedCount }) => countCell(failedCount),
    rejected: ({ rejectedCount }) => countCell(rejectedCount),
    prompts: ({ promptTokenCount }) => countCell(promptTokenCount),
    answers: ({ completionTokenCount }) => countCell(completionTokenCount),
    USD: ({ costUsd }) => (costUsd === undefined ? none : costUsd.toFixed(costUsd < 1 ? 4 : 2)),
    'trained tokens': ({ source }) => {
      const tokens = groups.flatMap((group) => (group.source === source ? (group.trainedTokenCount ?? []) : []));
      return tokens.length === 0 ? none : countCell(tokens.reduce((sum, tokenCount) => sum + tokenCount, 0));
    },
  };
  // A column that says nothing takes room from those that do.
  const shown = Object.entries(cells).filter(([, cell]) => collections.some((collection) => cell(collection) !== none));
  const isShown = (name: string): boolean => shown.some(([other]) => other === name);
  return {
    heading: 'Training answers',
    notes: [
      'trained tokens: tokens that the loss was taken over, all epochs, seeds and ways of training of the source together.',
      ...(isShown('prompts')
        ? [`prompts, answers: tokens that the teacher read and wrote for them${isShown('USD') ? '; USD: at the prices of the time' : ''}.`]
        : []),
      ...(isShown('right')
        ? [
            'right: of the usable answers, by verification; rejected: usable, but not chosen, reciting an evaluation question, or a duplicate.',
          ]
        : []),
    ],
    table: {
      columns: [left('source'), ...shown.map(([name]) => right(name))],
      rows: collections.map((collection) => [collection.source, ...shown.map(([, cell]) => cell(collection))]),
    },
  };
};

const countCell = (count: number | undefined): string => (count === undefined ? none : String(count));

const runSection = ({ name, createdAt, configHash, sessions, testOpenings }: RunSummary): ReportSection => {
  const last = sessions.at(-1);
  const versions = Object.entries(last?.versions ?? {}).map(([program, version]) => `${program} ${version}`);
  const memory = last === undefined ? '' : `${(last.machine.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  return {
    heading: 'What was run',
    notes: [],
    items: [
      `${name}, begun ${createdAt}, config ${configHash.slice(0, 12)}, in ${sessions.length} ${sessions.length === 1 ? 'session' : 'sessions'}`,
      openingsText(testOpenings),
      ...(last === undefined ? [] : [`${versions.join(', ')}; ${last.machine.processor}, ${last.machine.coreCount} cores, ${memory}`]),
    ],
  };
};

/** How often answers to test questions were begun: once for each row is as it should be. */
export const openingsText = (openings: RunSummary['testOpenings']): string => {
  const counts = new Map<string, number>();
  for (const { what } of openings) counts.set(what, (counts.get(what) ?? 0) + 1);
  if (counts.size === 0) return 'The test questions were not opened.';
  const repeated = [...counts].filter(([, count]) => count > 1).map(([what, count]) => `${what} ${count} times`);
  const who = counts.size === 1 ? 'once' : `by ${counts.size} rows, by each once`;
  if (repeated.length === 0) return `The test questions were opened ${who}.`;
  return `The test questions were opened ${openings.length} times, by ${counts.size} rows; continued or repeated: ${repeated.join(', ')}.`;
};
