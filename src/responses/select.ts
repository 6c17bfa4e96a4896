import type { Response } from './response.ts';
import type { Verification } from './verify.ts';

/**
 * Which of the answers that came are learnt from. `all`. `right`: those that verification finds right (rejection sampling). Or one a question:
 * `first-right`, the first right one; `best-of-n`, the one with the highest score, right or not; `majority`, the first of those that agree with
 * most others (self-consistency), whatever verification says.
 */
export const keepPolicies = ['all', 'right', 'first-right', 'best-of-n', 'majority'] as const;
export type KeepPolicy = (typeof keepPolicies)[number];

export interface Selection {
  readonly kept: readonly Response[];
  /** With status `rejected` and the reason. */
  readonly rejected: readonly Response[];
}

/** Sorts answers by a policy. Failed ones must not be among them. The order stays. */
export const selectResponses = (
  responses: readonly Response[],
  policy: KeepPolicy,
  verificationOf: (response: Response) => Verification,
): Selection => {
  const reasons = new Map<Response, string>();
  for (const answers of Map.groupBy(responses, ({ exampleId }) => exampleId).values())
    for (const [response, reason] of rejections[policy](answers, verificationOf)) reasons.set(response, reason);
  return {
    kept: responses.filter((response) => !reasons.has(response)),
    rejected: responses.flatMap((response) => {
      const reason = reasons.get(response);
      return reason === undefined ? [] : [{ ...response, status: 'rejected' as const, reason }];
    }),
  };
};

/** Which of the answers to one question are not learnt from, and why. */
type Reject = (answers: readonly Response[], verificationOf: (response: Response) => Verification) => Map<Response, string>;

const wrongOf: Reject = (answers, verificationOf) =>
  new Map(
    answers.flatMap((answer) => {
      const { isRight, reason = 'not right' } = verificationOf(answer);
      return isRight ? [] : [[answer, reason] as const];
    }),
  );

const othersThan = (chosen: Response | undefined, answers: readonly Response[], reason: string): Map<Response, string> =>
  new Map(answers.flatMap((answer) => (answer === chosen ? [] : [[answer, reason] as const])));

const rejections: Record<KeepPolicy, Reject> = {
  all: () => new Map(),
  right: wrongOf,
  'first-right': (answers, verificationOf) => {
    const wrong = wrongOf(answers, verificationOf);
    const right = answers.filter((answer) => !wrong.has(answer));
    return new Map([...wrong, ...othersThan(right[0], right, `not the first of ${right.length} right answers`)]);
  },
  'best-of-n': (answers, verificationOf) => {
    const score = (answer: Response): number => verificationOf(answer).score;
    const best = answers.reduce((first, answer) => (score(answer) > score(first) ? answer : first));
    return othersThan(best, answers, `not the best of ${answers.length} answers`);
  },
  majority: (answers) => othersThan(majorityOf(answers), answers, `not the majority's first of ${answers.length} answers`),
};

/** Answers in which nothing was found say nothing; of equally large groups the one that came first. */
const majorityOf = (answers: readonly Response[]): Response | undefined => {
  const groups = [...Map.groupBy(answers, ({ flexibleExtraction }) => normalised(flexibleExtraction ?? '')).entries()].filter(
    ([extraction]) => extraction !== '',
  );
  const [, largest] = groups.reduce<readonly [string, readonly Response[]]>(
    (best, group) => (group[1].length > best[1].length ? group : best),
    ['', []],
  );
  return largest[0] ?? answers[0];
};

/** `1,000.` and `$1000` are one result. */
const normalised = (extraction: string): string =>
  extraction
    .replace(/[\s$,]/g, '')
    .replace(/\.0*$/, '')
    .toLowerCase();

/** What became of a source's usable answers, as counts. */
export interface Yield {
  readonly source: string;
  readonly answerCount: number;
  /** By verification. */
  readonly rightCount: number;
  readonly followsFormatCount: number;
  readonly keptCount: number;
  /** Questions with at least one kept answer. */
  readonly questionCount: number;
}

export const yieldOf = (
  source: string,
  responses: readonly Response[],
  kept: readonly Response[],
  verificationOf: (response: Response) => Verification,
): Yield => ({
  source,
  answerCount: responses.length,
  rightCount: responses.filter((response) => verificationOf(response).isRight).length,
  followsFormatCount: responses.filter(({ followsFormat }) => followsFormat).length,
  keptCount: kept.length,
  questionCount: new Set(kept.map(({ exampleId }) => exampleId)).size,
});
