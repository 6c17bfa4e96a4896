import { z } from 'zod';
import { randomFrom } from '../base/random.ts';
import { type ArmId, parseVariant } from '../run-folder/arm.ts';
import type { RunManifest } from '../run-folder/manifest.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { checkFiles, stageNames } from '../run-folder/stage.ts';
import { compareLikelihoods, compareScores, type PairedDifference } from './compare-arms.ts';
import { headlineOf } from './headline.ts';
import { holm } from './holm.ts';
import { type Evaluation, loadEvaluations } from './load-evaluations.ts';
import {
  type Measure,
  type RunSummary,
  type SummaryCollection,
  type SummaryComparison,
  type SummarySearch,
  summarySchemaVersion,
} from './summary.ts';
import { type EvaluationGroup, groupEvaluations, likelihoodTable, scoreTable, summariseGroup, summariseRow } from './summary-rows.ts';

/** Recomputes everything that a report says from the run's own files. A run that is not finished is summarised as far as it has come. */
export const summariseRun = async (run: RunFolder): Promise<RunSummary> => {
  const manifest = await run.manifest();
  const { evaluations, questionCount, questionsHash, warnings } = await loadEvaluations(run, manifest);
  const edited = (await checkFiles(run, 'evaluations/')).filter(({ problem }) => problem === 'changed');
  const groups = orderGroups(groupEvaluations(evaluations), manifest);
  const labels = labelsOf(groups);
  const searches = searchesOf(manifest);
  const comparisons = questionCount === 0 ? [] : compareGroups(groups, labels, manifest);
  const summary: Omit<RunSummary, 'headline'> = {
    schemaVersion: summarySchemaVersion,
    name: manifest.name,
    createdAt: manifest.createdAt,
    configHash: manifest.configHash,
    protocol: manifest.protocol,
    questionCount,
    questionsHash,
    groups: questionCount === 0 ? [] : groups.map((group) => summariseGroup(group, labels.get(group.key) ?? group.key, manifest.protocol)),
    rows: groups.flatMap((group) => group.evaluations.map((evaluation) => rowOf(evaluation, groups, manifest))),
    comparisons,
    collections: collectionsOf(manifest),
    searches,
    warnings: [
      ...edited.map(({ file }) => `${file} was changed after it was finished: its SHA-256 is not the recorded one.`),
      ...warnings,
      ...openedTooEarly(manifest, searches),
      ...(manifest.protocol.testQuestionCount > questionCount && questionCount > 0
        ? [`${questionCount} of the ${manifest.protocol.testQuestionCount} test questions were compared.`]
        : []),
      ...manifest.warnings.map(({ stage, message }) => `${stage}: ${message}`),
    ],
    unfinished: unfinishedOf(manifest),
    testOpenings: manifest.testOpenings,
    sessions: manifest.sessions,
  };
  return { ...summary, headline: headlineOf(summary) };
};

/** The baseline's student of the same seed, and the student as it came. */
const rowOf = (evaluation: Evaluation, groups: readonly EvaluationGroup[], { protocol }: RunManifest) => {
  const all = groups.flatMap((group) => group.evaluations);
  const { subject } = evaluation;
  if (subject.kind !== 'arm') return summariseRow(evaluation, undefined, undefined);
  const { method, student, seed } = subject.arm;
  const baseline = all.find(
    ({ subject: other }) =>
      other.kind === 'arm' &&
      other.arm.source === protocol.baseline &&
      other.arm.method === method &&
      other.arm.student === student &&
      other.arm.seed === seed,
  );
  return summariseRow(evaluation, baseline, untouchedOf(all, student));
};

const untouchedOf = (evaluations: readonly Evaluation[], student: string): Evaluation | undefined =>
  evaluations.find(({ subject }) => subject.kind === 'untouched' && subject.student === student && subject.variant === undefined);

/** The baseline first, then the planned arms in their order, then the others, the untouched students, the teacher. */
const orderGroups = (groups: readonly EvaluationGroup[], { protocol }: RunManifest): EvaluationGroup[] => {
  const rank = ({ evaluations }: EvaluationGroup): number => {
    const subject = evaluations[0]?.subject;
    if (subject?.kind === 'untouched') return 2000;
    if (subject?.kind !== 'arm') return 3000;
    if (subject.arm.source === protocol.baseline) return 0;
    const planned = protocol.compared.indexOf(subject.arm.source);
    return planned < 0 ? 1000 : 1 + planned;
  };
  return [...groups].sort((a, b) => rank(a) - rank(b) || (a.key < b.key ? -1 : 1));
};

/** Names by what differs: method and student only where a run has several. */
const labelsOf = (groups: readonly EvaluationGroup[]): Map<string, string> => {
  const arms = groups.flatMap(({ evaluations }) => {
    const subject = evaluations[0]?.subject;
    return subject?.kind === 'arm' ? [subject.arm] : [];
  });
  const hasMethods = new Set(arms.map(({ method }) => method)).size > 1;
  const hasStudents = new Set(arms.map(({ student }) => student)).size > 1;
  const label = ({ evaluations, key }: EvaluationGroup): string => {
    const subject = evaluations[0]?.subject;
    if (subject === undefined) return key;
    if (subject.kind === 'teacher') return subject.variant === undefined ? 'teacher itself' : `teacher itself, ${subject.variant}`;
    if (subject.kind === 'untouched') {
      const student = hasStudents ? ` ${subject.student}` : '';
      return subject.variant === undefined ? `untouched student${student}` : `untouched${student}: ${variantLabel(subject.variant)}`;
    }
    const { source, method, student } = subject.arm;
    return [source, ...(hasMethods ? [method] : []), ...(hasStudents ? [student] : [])].join(' · ');
  };
  return new Map(groups.map((group) => [group.key, label(group)]));
};

const variantLabel = (name: string): string => {
  const variant = parseVariant(name);
  if (variant === undefined) return name;
  return variant.kind === 'shots' ? `${variant.count} shots` : variant.source;
};

/** The untouched student after few shots, and under the priming that the arm's teacher was given. */
const askedOtherwise = (groups: readonly EvaluationGroup[], { source, student }: ArmId): EvaluationGroup[] =>
  groups.filter(({ evaluations }) => {
    const subject = evaluations[0]?.subject;
    if (subject?.kind !== 'untouched' || subject.student !== student || subject.variant === undefined) return false;
    const variant = parseVariant(subject.variant);
    return variant?.kind === 'shots' || (variant?.kind === 'primed' && variant.source === source);
  });

/** Every arm against the baseline of its method and student, and against its untouched student, in every measure. */
const compareGroups = (
  groups: readonly EvaluationGroup[],
  labels: ReadonlyMap<string, string>,
  { protocol }: RunManifest,
): SummaryComparison[] => {
  const all = groups.flatMap((group) => group.evaluations);
  const comparisons = groups.flatMap((group): SummaryComparison[] => {
    const subject = group.evaluations[0]?.subject;
    if (subject?.kind !== 'arm') return [];
    const { source, method, student } = subject.arm;
    const baseline = groups.find(({ evaluations }) => {
      const other = evaluations[0]?.subject;
      return (
        other?.kind === 'arm' && other.arm.source === protocol.baseline && other.arm.method === method && other.arm.student === student
      );
    });
    const untouched = untouchedOf(all, student);
    const others = [
      ...(baseline === undefined || baseline === group ? [] : [{ against: 'baseline' as const, other: baseline }]),
      ...(untouched === undefined ? [] : [{ against: 'untouched' as const, other: { key: untouched.name, evaluations: [untouched] } }]),
      ...askedOtherwise(groups, subject.arm).map((other) => ({ against: 'asked otherwise' as const, other })),
    ];
    return others.flatMap(({ against, other }) =>
      (['strict', 'flexible', 'likelihood'] as const).flatMap((measure): SummaryComparison[] => {
        const compared = compareIn(measure, group, other);
        if (compared === undefined) return [];
        const isPlanned = against === 'baseline' && measure === protocol.primaryMeasure && protocol.compared.includes(source);
        return [
          {
            ...compared,
            measure,
            first: labels.get(group.key) ?? group.key,
            second: labels.get(other.key) ?? other.key,
            against,
            isPlanned,
          },
        ];
      }),
    );
  });
  const planned = comparisons.filter(({ isPlanned }) => isPlanned);
  const adjusted = holm(planned.map(({ pValue }) => pValue));
  return comparisons.map((comparison) => {
    const adjustedPValue = adjusted[planned.indexOf(comparison)];
    return adjustedPValue === undefined ? comparison : { ...comparison, adjustedPValue };
  });
};

/** Over the seeds that both have; one without seeds stands against all. */
const compareIn = (measure: Measure, first: EvaluationGroup, second: EvaluationGroup): PairedDifference | undefined => {
  const seeds = (group: EvaluationGroup) => group.evaluations.flatMap(({ subject }) => (subject.kind === 'arm' ? [subject.arm.seed] : []));
  const shared = (group: EvaluationGroup, other: EvaluationGroup): readonly Evaluation[] => {
    const wanted = seeds(other);
    if (wanted.length === 0) return group.evaluations;
    return group.evaluations.filter(({ subject }) => subject.kind !== 'arm' || wanted.includes(subject.arm.seed));
  };
  const [ours, theirs] = [shared(first, second), shared(second, first)];
  if (ours.length === 0 || theirs.length === 0) return undefined;
  if (measure !== 'likelihood') return compareScores(scoreTable(ours, measure), scoreTable(theirs, measure));
  const [a, b] = [likelihoodTable(ours), likelihoodTable(theirs)];
  if (a === undefined || b === undefined || a.tokenCounts.some((count, index) => count !== b.tokenCounts[index])) return undefined;
  return compareLikelihoods(a.table, b.table, a.tokenCounts, randomFrom(0, 'comparison', first.key, second.key));
};

const collectionFacts = z.object({
  keptCount: z.int().nonnegative().catch(0),
  failedCount: z.int().nonnegative().catch(0),
  rejectedCount: z.int().nonnegative().catch(0),
  promptTokenCount: z.int().nonnegative().exactOptional(),
  completionTokenCount: z.int().nonnegative().exactOptional(),
  costUsd: z.number().nonnegative().exactOptional(),
});

const yieldFacts = z.object({
  arms: z
    .array(
      z.object({
        source: z.string(),
        answerCount: z.int().nonnegative(),
        rightCount: z.int().nonnegative(),
        keptCount: z.int().nonnegative(),
        questionCount: z.int().nonnegative(),
      }),
    )
    .catch([]),
});

/** What was collected, and of what was curated what is left of it; arms that choose among another's answers have a yield alone. */
const collectionsOf = ({ stages }: RunManifest): SummaryCollection[] => {
  const collected = Object.entries(stages).flatMap(([stage, record]) =>
    stage.startsWith('collect--') && record.status === 'done'
      ? [{ source: stage.slice('collect--'.length), ...collectionFacts.parse(record.facts) }]
      : [],
  );
  const curated = stages[stageNames.curate('answers')];
  const yields = curated?.status === 'done' ? yieldFacts.parse(curated.facts).arms : [];
  const ownCount = (source: string): number => collected.find((one) => one.source === source)?.failedCount ?? 0;
  const left = yields.map(({ source, answerCount, rightCount, keptCount, questionCount }) => ({
    ...{ source, keptCount, failedCount: ownCount(source), rejectedCount: answerCount - keptCount },
    ...{ rightCount, answeredQuestionCount: questionCount },
  }));
  const leftOf = new Map(left.map((one) => [one.source, one]));
  return [
    ...collected.map((one) => leftOf.get(one.source) ?? one),
    ...left.filter(({ source }) => !collected.some((one) => one.source === source)),
  ];
};

const candidateSchema = z.object({
  learningRate: z.number(),
  epochs: z.number(),
  alpha: z.number().exactOptional(),
  temperature: z.number().exactOptional(),
  developmentLoss: z.number().nullable(),
  lost: z.string().exactOptional(),
  stepCount: z.number().exactOptional(),
  trainedTokenCount: z.number().exactOptional(),
});

const chooseFacts = z.object({
  candidates: z.array(candidateSchema).catch([]),
  learningRate: z.number(),
  epochs: z.number(),
  alpha: z.number().exactOptional(),
  temperature: z.number().exactOptional(),
  arm: z.string().catch(''),
  rowCount: z.number().catch(0),
  judgingRowCount: z.number().catch(0),
  judgedOn: z.enum(['development', 'test']).catch('development'),
});

const isChoice = (stage: string): boolean => stage === stageNames.choose() || stage.startsWith(`${stageNames.choose()}--`);

const searchesOf = (manifest: RunManifest): SummarySearch[] =>
  Object.entries(manifest.stages).flatMap(([stage, { status, facts }]) => {
    const parsed = isChoice(stage) && status === 'done' ? chooseFacts.safeParse(facts) : undefined;
    return parsed?.success === true ? [{ stage, ...parsed.data }] : [];
  });

/** What is chosen is to be frozen before anybody answers a test question: the record's own times tell. */
const openedTooEarly = ({ stages, testOpenings }: RunManifest, searches: readonly SummarySearch[]): string[] => {
  const opened = testOpenings.map(({ at }) => at).sort()[0];
  return searches.flatMap(({ stage, judgedOn }) => {
    const frozen = stages[stage]?.finishedAt;
    if (judgedOn === 'test' || opened === undefined || frozen === undefined || opened >= frozen) return [];
    return [`${stage}: settings were frozen at ${frozen}, after the test questions had been opened at ${opened}.`];
  });
};

const unfinishedOf = (manifest: RunManifest): RunSummary['unfinished'] => {
  // The report is what says so: it cannot wait for itself.
  const names = [...new Set([...manifest.plannedStages, ...Object.keys(manifest.stages)])].filter((name) => name !== stageNames.report);
  return names.flatMap((stage): RunSummary['unfinished'] => {
    const record = manifest.stages[stage];
    if (record === undefined) return [{ stage, state: 'not begun' }];
    if (record.status === 'done') return [];
    if (record.status === 'started') return [{ stage, state: 'begun' }];
    return [{ stage, state: 'failed', ...(record.error === undefined ? {} : { error: record.error }) }];
  });
};
