import type { AnswerRecord } from './answer-record.ts';
import type { Evaluation } from './load-evaluations.ts';
import type { SummaryGroup } from './summary.ts';

/** A question that some groups of students got right more often than others. */
export interface DifferingQuestion {
  readonly id: string;
  readonly question: string;
  readonly gold: string;
  readonly answers: readonly GroupAnswer[];
}

export interface GroupAnswer {
  readonly label: string;
  /** Strictly right, of the group's seeds. */
  readonly rightCount: number;
  readonly seedCount: number;
  /** Of the first seed. */
  readonly shown: AnswerRecord;
}

export interface DifferingQuestions {
  readonly questions: readonly DifferingQuestion[];
  /** Questions on which groups differ, of which `questions` are the first. */
  readonly differingCount: number;
}

/**
 * Questions on which groups differ, for reading: those first on which the planned arms and the baseline differ, otherwise in the order of the
 * test questions. `limit` keeps a page within bounds; what it leaves out is counted.
 */
export const differingQuestions = (
  evaluations: readonly Evaluation[],
  groups: readonly SummaryGroup[],
  limit: number,
  planned: readonly string[],
): DifferingQuestions => {
  const byName = new Map(evaluations.map((evaluation) => [evaluation.name, evaluation]));
  const first = evaluations[0]?.answers ?? [];
  const differing = first.flatMap(({ id, question, gold }, index): (DifferingQuestion & { readonly spread: number })[] => {
    const answers = groups.flatMap(({ label, rowNames }): GroupAnswer[] => {
      const records = rowNames.flatMap((name) => byName.get(name)?.answers[index] ?? []);
      const [shown] = records;
      if (shown === undefined) return [];
      return [{ label, rightCount: records.filter(({ strict }) => strict).length, seedCount: records.length, shown }];
    });
    const share = ({ rightCount, seedCount }: GroupAnswer) => rightCount / seedCount;
    const shares = answers.map(share);
    if (Math.max(...shares) === Math.min(...shares)) return [];
    const baseline = answers.find(({ label }) => groups.some((group) => group.isBaseline && group.label === label));
    const ofPlanned = answers.filter(({ label }) => groups.some((group) => group.label === label && planned.includes(group.source ?? '')));
    const spread = baseline === undefined ? 0 : Math.max(0, ...ofPlanned.map((answer) => Math.abs(share(answer) - share(baseline))));
    return [{ id, question, gold, answers, spread }];
  });
  const ordered = differing.toSorted((a, b) => b.spread - a.spread);
  return {
    questions: ordered.slice(0, limit).map(({ id, question, gold, answers }) => ({ id, question, gold, answers })),
    differingCount: differing.length,
  };
};
