import { type Clock, systemClock } from '../base/clock.ts';
import { type Random, randomFrom } from '../base/random.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { type AdmissionOptions, admission } from './admission.ts';
import { type AskSurroundings, ask, defaultRetryPolicy, type RetryPolicy } from './ask.ts';
import { wholeUsage } from './spending.ts';

export interface PatientTeacherOptions extends Pick<AdmissionOptions, 'budget' | 'limits' | 'prices' | 'spentBefore'> {
  readonly retries?: Partial<RetryPolicy>;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly onProblem?: (message: string) => void;
}

/**
 * The same teacher, asked again where that can help, and within a budget and limits: as `collect` does it, for those who ask without a store. One pause
 * holds back all that is asked through it.
 */
export const patientTeacher = (teacher: Teacher, options: PatientTeacherOptions = {}): Teacher => {
  const { clock = systemClock, random = randomFrom(0, 'waits'), onProblem, ...bounds } = options;
  const policy = { ...defaultRetryPolicy, ...options.retries };
  const admitted = admission({ ...bounds, clock, random, patienceMs: policy.patienceMs });
  let hasAnswered = false;
  return {
    ...teacher,
    generate: async ({ signal, ...request }) => {
      const never = new AbortController().signal;
      const surroundings: AskSurroundings = {
        teacher,
        admission: admitted,
        policy,
        clock,
        random,
        stop: signal ?? never,
        hangUp: signal ?? never,
        hasAnswered: () => hasAnswered,
        onSent: () => undefined,
        onProblem: (problem) => onProblem?.(problem.message),
      };
      const asked = await ask(request, surroundings);
      if (asked.outcome === 'interrupted') throw asked.thrown;
      if (asked.outcome !== 'answered') throw asked.problem;
      admitted.gate.relax();
      hasAnswered = true;
      const { answer, tryCount, wastedUsage, assumedUsage } = asked;
      return { ...answer, billed: { requestCount: tryCount, usage: wholeUsage({ usage: answer.usage, wastedUsage, assumedUsage }) } };
    },
  };
};
