import { type Clock, systemClock } from '../base/clock.ts';
import { randomFrom } from '../base/random.ts';
import type { Teacher, TeacherAnswer, TeacherIdentity, TeacherRequest } from './teacher.ts';

export interface FakeTeacherOptions {
  /**
   * What to answer, as text or whole; an error is thrown. `attempt` counts the times that this very request (question, strategy, sample) came,
   * from 0. Absent: a few words and a number that depend on the messages and the seed alone.
   */
  readonly answer?: (request: TeacherRequest, attempt: number) => string | TeacherAnswer | Error;
  readonly identity?: Partial<TeacherIdentity>;
  readonly concurrency?: number;
  /** How long an answer takes. */
  readonly latencyMs?: number;
  readonly clock?: Clock;
}

export interface FakeTeacher extends Teacher {
  /** All that was asked, in order. */
  readonly requests: readonly TeacherRequest[];
  /** The most that were under way at once. */
  readonly peakConcurrency: () => number;
}

/** A teacher for tests and for trying things out: deterministic, scriptable, asks nobody. */
export const fakeTeacher = (options: FakeTeacherOptions = {}): FakeTeacher => {
  const { answer = defaultAnswer, latencyMs = 0, clock = systemClock } = options;
  const requests: TeacherRequest[] = [];
  const attempts = new Map<string, number>();
  let underWay = 0;
  let peak = 0;
  return {
    identity: { kind: 'fake', model: 'fake', ...options.identity },
    concurrency: options.concurrency ?? 4,
    requests,
    peakConcurrency: () => peak,
    generate: async (request) => {
      request.signal?.throwIfAborted();
      requests.push(request);
      const name = JSON.stringify([request.exampleId, request.strategy, request.sampleIndex]);
      const attempt = attempts.get(name) ?? 0;
      attempts.set(name, attempt + 1);
      peak = Math.max(peak, ++underWay);
      try {
        if (latencyMs > 0) await clock.sleep(latencyMs, request.signal);
        const result = answer(request, attempt);
        if (result instanceof Error) throw result;
        return typeof result === 'string' ? wholeAnswer(request, result) : result;
      } finally {
        underWay--;
      }
    },
    release: () => Promise.resolve(),
  };
};

/** Words stand for tokens: good enough for usage that must be some number and the same one every time. */
const wholeAnswer = (request: TeacherRequest, text: string): TeacherAnswer => ({
  text,
  finishReason: 'stop',
  usage: { promptTokens: wordCount(request.messages.map((message) => message.content).join(' ')), completionTokens: wordCount(text) },
  reportedModel: 'fake',
});

const defaultAnswer = (request: TeacherRequest): string => {
  const number = randomFrom(request.sampling.seed, ...request.messages.map((message) => message.content)).integer(100);
  return `Thinking it over gives ${number}.\n#### ${number}`;
};

const wordCount = (text: string): number => text.split(/\s+/).filter((word) => word !== '').length;
