import type { Response } from './response.ts';

/** Which of the answers that came are learnt from. */
export interface SelectionPolicy {
  /** Answers that the task finds right, by its strict or its flexible rule; absent: right or wrong. */
  readonly right?: 'strict' | 'flexible';
  /**
   * Of several answers to one question: all; the first; the shortest in characters; or the first of those that agree with most others (by the
   * flexible extraction). Absent: all.
   */
  readonly perQuestion?: 'all' | 'first' | 'shortest' | 'majority';
}

export interface Selection {
  readonly kept: readonly Response[];
  /** With status `rejected` and the reason. */
  readonly rejected: readonly Response[];
}

/** Sorts answers by a policy. Failed ones must not be among them. The order stays. */
export const selectResponses = (responses: readonly Response[], { right, perQuestion = 'all' }: SelectionPolicy): Selection => {
  const reasons = new Map<Response, string>();
  if (right !== undefined) for (const response of responses) if (!response[right]) reasons.set(response, `not right by the ${right} rule`);
  const candidates = responses.filter((response) => !reasons.has(response));
  for (const answers of Map.groupBy(candidates, ({ exampleId }) => exampleId).values()) {
    const chosen = choosers[perQuestion](answers);
    if (chosen === undefined) continue;
    for (const response of answers) if (response !== chosen) reasons.set(response, `not the ${perQuestion} of ${answers.length} answers`);
  }
  return {
    kept: responses.filter((response) => !reasons.has(response)),
    rejected: responses.flatMap((response) => {
      const reason = reasons.get(response);
      return reason === undefined ? [] : [{ ...response, status: 'rejected' as const, reason }];
    }),
  };
};

const choosers: Record<NonNullable<SelectionPolicy['perQuestion']>, (answers: readonly Response[]) => Response | undefined> = {
  all: () => undefined,
  first: ([first]) => first,
  shortest: (answers) => answers.reduce((best, answer) => (answer.text.length < best.text.length ? answer : best)),
  majority: (answers) => {
    const groups = [...Map.groupBy(answers, ({ flexibleExtraction }) => flexibleExtraction ?? '').entries()].filter(
      ([extraction]) => extraction !== '',
    );
    // Answers without a number say nothing; of equally large groups the one that came first.
    const [, largest] = groups.reduce<readonly [string, readonly Response[]]>(
      (best, group) => (group[1].length > best[1].length ? group : best),
      ['', []],
    );
    return largest[0] ?? answers[0];
  },
};

/** What became of a source's answers, as counts. */
export interface Yield {
  readonly source: string;
  readonly answerCount: number;
  readonly strictCount: number;
  readonly flexibleCount: number;
  readonly followsFormatCount: number;
  readonly keptCount: number;
  /** Questions with at least one kept answer. */
  readonly questionCount: number;
}

/** The yield of each source, in the order in which they come. */
export const yieldBySource = (responses: readonly Response[], kept: readonly Response[]): Yield[] => {
  const keptBySource = Map.groupBy(kept, ({ source }) => source);
  return [...Map.groupBy(responses, ({ source }) => source)].map(([source, answers]) => {
    const keptHere = keptBySource.get(source) ?? [];
    return {
      source,
      answerCount: answers.length,
      strictCount: answers.filter(({ strict }) => strict).length,
      flexibleCount: answers.filter(({ flexible }) => flexible).length,
      followsFormatCount: answers.filter(({ followsFormat }) => followsFormat).length,
      keptCount: keptHere.length,
      questionCount: new Set(keptHere.map(({ exampleId }) => exampleId)).size,
    };
  });
};
