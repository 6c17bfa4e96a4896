import { measureUnits } from '../evaluation/number-text.ts';
import type { RunSummary, SummarySearch } from '../evaluation/summary.ts';
import { openingsText } from './sections.ts';

/** A paragraph to paste into a paper, and the works that it cites. */
export interface MethodsParagraph {
  readonly text: string;
  readonly references: readonly string[];
}

/** Says how the numbers of this run came about; nothing in it is fixed text about results. */
export const methodsParagraph = ({
  protocol,
  questionCount,
  groups,
  comparisons,
  sessions,
  testOpenings,
  searches,
}: RunSummary): MethodsParagraph => {
  const arms = groups.filter(({ kind }) => kind === 'arm');
  const sources = arms.map(({ source }) => source ?? '').filter((source, index, all) => all.indexOf(source) === index);
  const seedCounts = [...new Set(arms.map(({ rowNames }) => rowNames.length))].sort((a, b) => a - b);
  const seeds = seedCounts.length === 0 ? 'no' : seedCounts.join(' to ');
  const planned = comparisons.filter(({ isPlanned }) => isPlanned);
  const isCrossed = comparisons.some(({ generality }) => generality === 'questions and seeds');
  const hasLora = arms.some(({ method = '' }) => method.startsWith('lora'));
  const { departures = [] } = protocol;
  const { noun } = measureUnits[protocol.primaryMeasure];
  const sentences = [
    `Students were fine-tuned${hasLora ? ' with LoRA [1]' : ''} on answers from ${sources.length} sources (${sources.join(', ')}), ${seeds} ${seedCounts.at(-1) === 1 ? 'seed' : 'seeds'} each, the arms differing in nothing else [2].`,
    ...searches.map(searchSentence),
    ...(departures.length === 0 ? [] : [`The protocol is not sound: ${departures.join(', ')}.`]),
    `They were measured on ${questionCount} held-out questions of ${protocol.task}${protocol.task === 'gsm8k' ? ' [3]' : ''} without any priming. ${openingsText(testOpenings)}`,
    `The declared primary measure was ${noun}, compared with “${protocol.baseline}”.`,
    'Accuracies of single students have Wilson intervals [4]; pairs of students were compared with McNemar’s exact test [5].',
    isCrossed
      ? 'Over seeds, questions and seeds were both treated as random and crossed, with Hillis’s degrees of freedom [6] and one pseudo-question each way [7]; answers were never pooled as if independent.'
      : 'With fewer than five seeds, intervals over seeds treat questions as random and are conditional on these seeds, with one pseudo-question each way [7]; p-values are of the exact sign-flip test over questions.',
    ...(planned.length > 1 ? [`p-values of the ${planned.length} planned comparisons were corrected with Holm’s method [8].`] : []),
    `Computed with retort-kd ${sessions.at(-1)?.versions['retort-kd'] ?? ''}.`,
  ];
  return { text: sentences.join(' '), references };
};

const searchSentence = ({ candidates, arm, judgingRowCount, judgedOn }: SummarySearch): string =>
  `Settings were chosen among ${candidates.length} candidates, trained on the answers of “${arm}”, by the loss of the solutions of ${judgingRowCount} ` +
  `${judgedOn === 'test' ? 'test questions' : 'development questions of the training split, before the test questions were opened'}.`;

const references: readonly string[] = [
  'Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685, 2021.',
  'Response priming: Enhancing Knowledge Distillation for LLMs with Response-Priming Prompting, arXiv 2412.17846, 2024.',
  'Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv 2110.14168, 2021.',
  'Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.',
  'McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947.',
  'Hillis, A comparison of denominator degrees of freedom methods for multiple observer ROC analysis, Statistics in Medicine 26, 2007.',
  'Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data, JEBS 37, 2012.',
  'Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.',
];
