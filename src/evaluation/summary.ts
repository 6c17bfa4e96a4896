import type { Subject } from '../run-folder/arm.ts';
import type { Machine, Protocol, Versions } from '../run-folder/manifest.ts';
import type { ChooseFacts } from '../run-folder/stage.ts';
import type { PairCounts, PairedDifference } from './compare-arms.ts';
import type { Interval } from './proportion.ts';

/** Raised when a program that reads the JSON of the old version would misread the new one. */
export const summarySchemaVersion = 1;

/** What a run came to, as plain data: everything that a report prints, and nothing that is not recomputed from the run's files. */
export interface RunSummary {
  readonly schemaVersion: typeof summarySchemaVersion;
  readonly name: string;
  readonly createdAt: string;
  readonly configHash: string;
  readonly protocol: Protocol;
  /** Questions that every row answered: all numbers are over these. */
  readonly questionCount: number;
  /** SHA-256 over their ids and texts in order of id: runs with the same one were measured on the same questions. */
  readonly questionsHash: string;
  /** The answer in one sentence, with its uncertainty. */
  readonly headline: string;
  /** Over seeds: one for each source × method × student, each untouched student, each teacher. */
  readonly groups: readonly SummaryGroup[];
  /** Every student by itself. */
  readonly rows: readonly SummaryRow[];
  readonly comparisons: readonly SummaryComparison[];
  readonly collections: readonly SummaryCollection[];
  /** What was chosen before the test questions were opened, and among what. */
  readonly searches: readonly SummarySearch[];
  readonly warnings: readonly string[];
  /** Stages that the config asks for and that are not done, and why. */
  readonly unfinished: readonly { readonly stage: string; readonly state: 'not begun' | 'begun' | 'failed'; readonly error?: string }[];
  readonly testOpenings: readonly { readonly at: string; readonly what: string }[];
  readonly sessions: readonly { readonly startedAt: string; readonly versions: Versions; readonly machine: Machine }[];
}

/** A share of questions: counts first, so that it can be added up and checked. */
export interface Share {
  readonly count: number;
  readonly total: number;
  readonly interval: Interval;
}

/** One set of answers to the test questions. */
export interface SummaryRow {
  /** The subject's name: an arm with its seed, `untouched--…`, `teacher`. */
  readonly name: string;
  readonly subject: Subject;
  readonly strict: Share;
  readonly flexible: Share;
  readonly format: AnswerForm;
  readonly likelihood?: LikelihoodSums;
  readonly training?: TrainingSums;
  /** McNemar's table against the baseline's student of the same seed, by score. */
  readonly versusBaseline?: ScorePair;
  readonly versusUntouched?: ScorePair;
}

export interface ScorePair {
  readonly strict: PairCounts;
  readonly flexible: PairCounts;
}

/** How answers look, apart from whether they are right. */
export interface AnswerForm {
  readonly answerCount: number;
  /** Answers in the form that the instruction asks for. */
  readonly followsFormatCount: number;
  /** Of those, the strictly right ones. */
  readonly rightInFormatCount: number;
  /** Answers cut off by the token limit, of those whose end is known. */
  readonly cutOffCount: number;
  /** Of those, the ones that would not have stopped: `neverStops`. */
  readonly neverStopsCount: number;
  readonly knownEndCount: number;
  /** Tokens of the answers whose length is known. */
  readonly tokenCount: number;
  readonly knownLengthCount: number;
}

/** Of held-out gold solutions: Σ log p in nats, and the tokens that it is over. */
export interface LikelihoodSums {
  readonly logLikelihood: number;
  readonly tokenCount: number;
  readonly truncatedCount: number;
}

export interface TrainingSums {
  readonly rowCount?: number;
  readonly droppedCount?: number;
  readonly trainedTokenCount?: number;
  readonly stepCount?: number;
  /** The step whose weights are the student: not the last where the best of those weighed on the way was kept. */
  readonly keptStep?: number;
}

/** Students that differ in their seed alone. */
export interface SummaryGroup {
  readonly kind: Subject['kind'];
  /** What tells it from the other groups of this run: `teacher`, or `teacher · lora · smollm2` where those differ. */
  readonly label: string;
  readonly source?: string;
  readonly method?: string;
  readonly student?: string;
  readonly variant?: string;
  readonly isBaseline: boolean;
  readonly rowNames: readonly string[];
  readonly strict: GroupMean;
  readonly flexible: GroupMean;
  /** Mean log-likelihood per token of gold solutions, in nats. */
  readonly likelihood?: GroupMean;
  /** Over all seeds' answers. */
  readonly format: AnswerForm;
  /** Over all seeds. */
  readonly trainedTokenCount?: number;
}

export interface GroupMean {
  readonly mean: number;
  readonly interval: Interval;
  readonly generality: PairedDifference['generality'];
  readonly seedCount: number;
  /** Standard deviation of the seeds' means. */
  readonly seedDeviation: number;
}

export type Measure = Protocol['primaryMeasure'];

/** The difference of a group to the baseline, or to its untouched student, in one measure. */
export interface SummaryComparison extends PairedDifference {
  readonly measure: Measure;
  readonly first: string;
  readonly second: string;
  /** `asked otherwise`: the untouched student after few shots, or under the arm's own priming. */
  readonly against: 'baseline' | 'untouched' | 'asked otherwise';
  /** Whether it belongs to the family declared in the config. Every other one is exploratory and uncorrected. */
  readonly isPlanned: boolean;
  /** Holm's correction over the planned family; absent outside it. */
  readonly adjustedPValue?: number;
}

/** One choice of settings. */
export interface SummarySearch extends ChooseFacts {
  readonly stage: string;
}

/** Answers to training questions, by source. */
export interface SummaryCollection {
  readonly source: string;
  /** Answers that are learnt from. */
  readonly keptCount: number;
  readonly failedCount: number;
  /** Usable answers that verification, the choice among several, or curation turned down. */
  readonly rejectedCount: number;
  /** Usable answers that verification found right. */
  readonly rightCount?: number;
  /** Questions with an answer that is learnt from. */
  readonly answeredQuestionCount?: number;
  /** Tokens as the teacher counted them; absent where nobody was asked. */
  readonly promptTokenCount?: number;
  readonly completionTokenCount?: number;
  /** At the prices of the time, where they were known. */
  readonly costUsd?: number;
}
