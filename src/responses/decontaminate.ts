import { UserError } from '../base/errors.ts';
import { wordGrams, words } from './words.ts';

/** A row to train on: the question and the answer are both searched, since a teacher can recite. */
export interface TrainingText {
  readonly id: string;
  readonly question: string;
  readonly answer: string;
}

/** A question that students are measured on. */
export interface EvaluationText {
  readonly id: string;
  readonly question: string;
}

/** A row that shares words with a question it must not know. */
export interface Contamination {
  readonly id: string;
  readonly trainingText: string;
  readonly evaluationId: string;
  readonly evaluationText: string;
  /** The first words that both have in a row. */
  readonly shared: string;
  /** Whether it stands in the row's question or in its answer. */
  readonly where: 'question' | 'answer';
}

export interface DecontaminationOptions {
  /** Words in a row that count as an overlap; 13 when absent (Brown et al. 2020, appendix C). A shorter question counts when it stands there whole. */
  readonly wordCount?: number;
}

/** The rows that share a run of words with an evaluation question, each once, with both texts. */
export const findContamination = (
  training: readonly TrainingText[],
  evaluation: readonly EvaluationText[],
  { wordCount = 13 }: DecontaminationOptions = {},
): Contamination[] => {
  const index = new Map<string, EvaluationText>();
  /** The lengths of the runs to look for: the full one, and those of shorter questions. */
  const lengths = new Set<number>();
  for (const question of evaluation) {
    const list = words(question.question);
    if (list.length === 0) continue;
    lengths.add(Math.min(wordCount, list.length));
    for (const gram of wordGrams(list, wordCount)) if (!index.has(gram)) index.set(gram, question);
  }
  return training.flatMap((row) => {
    for (const where of ['question', 'answer'] as const) {
      const list = words(row[where]);
      for (const length of lengths) {
        if (list.length < length) continue;
        for (const shared of wordGrams(list, length)) {
          const question = index.get(shared);
          if (question === undefined) continue;
          return [{ id: row.id, trainingText: row[where], evaluationId: question.id, evaluationText: question.question, shared, where }];
        }
      }
    }
    return [];
  });
};

/** From this share of contaminated rows on, the training set is not a set with some overlap: it is the test set. */
const sameSetShare = 0.5;

/** Throws when the training set is the evaluation set, or the greater part of it. */
export const checkNotTheSameSet = (contaminations: readonly Contamination[], trainingCount: number): void => {
  if (trainingCount === 0 || contaminations.length / trainingCount < sameSetShare) return;
  const [first] = contaminations;
  throw new UserError(
    `${contaminations.length} of ${trainingCount} training questions are evaluation questions, such as ${JSON.stringify(first?.id)} and ${JSON.stringify(first?.evaluationId)}: ` +
      'a student that is trained on them is measured on what it was told. Train on the training split, or evaluate on another one.',
  );
};
