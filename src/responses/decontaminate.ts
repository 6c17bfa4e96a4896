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
  /**
   * Words in a row that count as an overlap; 13 when absent (Brown et al. 2020, appendix C). A shorter question counts when it stands whole in a
   * training question; in an answer its few words prove nothing.
   */
  readonly wordCount?: number;
}

/** Words that stand in more evaluation questions than this are their common wording (Brown et al. leave such runs out, too). */
const commonCount = 10;

/** The rows that share a run of words with an evaluation question, each once, with both texts. */
export const findContamination = (
  training: readonly TrainingText[],
  evaluation: readonly EvaluationText[],
  { wordCount = 13 }: DecontaminationOptions = {},
): Contamination[] => {
  const index = new Map<string, { readonly question: EvaluationText; count: number }>();
  /** The lengths of the runs to look for: the full one, and those of shorter questions. */
  const lengths = new Set([wordCount]);
  const seen = new Set<string>();
  for (const question of evaluation) {
    const list = words(question.question);
    const text = list.join(' ');
    if (text === '' || seen.has(text)) continue;
    seen.add(text);
    lengths.add(Math.min(wordCount, list.length));
    for (const gram of new Set(wordGrams(list, wordCount))) {
      const entry = index.get(gram);
      if (entry === undefined) index.set(gram, { question, count: 1 });
      else entry.count++;
    }
  }
  return training.flatMap((row) => {
    for (const where of ['question', 'answer'] as const) {
      const list = words(row[where]);
      for (const length of where === 'question' ? lengths : [wordCount]) {
        if (list.length < length) continue;
        for (const shared of wordGrams(list, length)) {
          const { question, count = 0 } = index.get(shared) ?? {};
          if (question === undefined || count > commonCount) continue;
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
  const questions = contaminations.filter(({ where }) => where === 'question');
  if (trainingCount === 0 || questions.length / trainingCount < sameSetShare) return;
  const [first] = questions;
  throw new UserError(
    `${questions.length} of ${trainingCount} training questions are evaluation questions, such as ${JSON.stringify(first?.id)} and ${JSON.stringify(first?.evaluationId)}: ` +
      'a student that is trained on them is measured on what it was told. Train on the training split, or evaluate on another one.',
  );
};
