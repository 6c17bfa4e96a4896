import { UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { randomFrom } from '../base/random.ts';
import { studentMessages } from '../priming/primed-messages.ts';
import type { Example, Task } from '../tasks/task.ts';
import { promptHash } from './request-key.ts';
import type { Response } from './response.ts';

/** The data set's own solutions in the place of a teacher's answers: what a student learns from without any teacher. */
export const goldResponses = (examples: readonly Example[], task: Task): Response[] =>
  examples.map((example) => ({
    requestKey: sha256(JSON.stringify(['gold', example.id, example.question, example.solution])),
    status: 'kept',
    source: 'gold',
    strategy: { name: 'gold', version: 1 },
    exampleId: example.id,
    exampleHash: sha256(example.question),
    sampleIndex: 0,
    promptHash: promptHash(studentMessages(example, task.instruction)),
    text: example.solution,
    finishReason: 'stop',
    gold: example.gold,
    ...task.score(example.solution, example),
    latencyMs: 0,
    tryCount: 0,
    teacher: 'gold',
    collectedAt: new Date(0).toISOString(),
  }));

/**
 * Another arm's answers under the wrong questions: its format and its words without their content. No answer stays with its own question
 * (Sattolo's algorithm: one cycle through all questions), several answers to a question move together, and each is scored against the
 * question that it now stands under. `source` is the arm's name.
 */
export const shuffledResponses = (
  responses: readonly Response[],
  seed: number,
  examples: readonly Example[],
  task: Task,
  source = 'shuffled',
): Response[] => {
  const exampleOf = new Map(examples.map((example) => [example.id, example]));
  const byQuestion = Map.groupBy(responses, ({ exampleId }) => exampleId);
  const ids = [...byQuestion.keys()];
  if (ids.length < 2)
    throw new UserError(`Answers to at least two questions are needed to put them under the wrong ones; there are ${ids.length}.`);
  const donors = oneCycle(ids, seed);
  return ids.flatMap((id, index) => {
    const example = exampleOf.get(id);
    if (example === undefined)
      throw new UserError(`An answer belongs to the question ${JSON.stringify(id)}, which is not among those given.`);
    const donor = donors[index] ?? id;
    return (byQuestion.get(donor) ?? []).map((response) => {
      // What the answer cost is counted where it was bought.
      const {
        strictExtraction: _,
        flexibleExtraction: __,
        usage: ___,
        wastedUsage: ____,
        assumedUsage: _____,
        costUsd: ______,
        ...rest
      } = response;
      return {
        ...rest,
        requestKey: sha256(JSON.stringify(['shuffled', seed, response.requestKey, id])),
        source,
        exampleId: id,
        exampleHash: sha256(example.question),
        tryCount: 0,
        gold: example.gold,
        ...task.score(response.text, example),
        answerFrom: donor,
      };
    });
  });
};

/** A permutation that is a single cycle, so that nothing stays in its place (Sattolo 1986). */
const oneCycle = <T>(items: readonly T[], seed: number): T[] => {
  const random = randomFrom(seed, 'shuffled answers');
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = random.integer(last);
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
};
