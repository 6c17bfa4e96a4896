import type { Clock } from '../base/clock.ts';
import { sha256 } from '../base/folders.ts';
import { TeacherError } from '../teachers/teacher-error.ts';
import type { Asked } from './ask.ts';
import { type CollectOptions, sourceOf } from './collect-options.ts';
import type { PlannedAnswer } from './collection-plan.ts';
import { judge } from './judge.ts';
import { promptHash, teacherName } from './request-key.ts';
import type { Response } from './response.ts';
import { costUsd, wholeUsage } from './spending.ts';

/** What a line of the store needs to know of its collection. */
export type RecordedOptions = Pick<CollectOptions, 'task' | 'strategy' | 'source' | 'accept' | 'prices'> & {
  readonly teacher: Pick<CollectOptions['teacher'], 'identity'>;
};

/** The line of the store for a question that was asked, however that ended. */
export const responseOf = (
  item: PlannedAnswer,
  messages: ReturnType<PlannedAnswer['messages']>,
  asked: Asked,
  options: RecordedOptions,
  clock: Clock,
): Response => {
  const { task, strategy, teacher, accept = [] } = options;
  const { example } = item;
  const answer = asked.outcome === 'answered' ? asked.answer : undefined;
  const text = answer?.text ?? '';
  const verdict = answer === undefined ? undefined : judge({ finishReason: answer.finishReason, isEmpty: text.trim() === '' }, accept);
  const { usage, reportedModel, reasoning, tokens } = answer ?? {};
  const { wastedUsage, assumedUsage } = asked;
  const whole = wholeUsage({ usage, wastedUsage, assumedUsage });
  const { strict, flexible, followsFormat, strictExtraction, flexibleExtraction } = task.score(text, example);
  // What is always there comes first: V8 adds what stands behind a spread one by one, which takes three times as long.
  return {
    requestKey: item.requestKey,
    source: sourceOf(options),
    strategy: { name: strategy.name, version: strategy.version },
    exampleId: example.id,
    exampleHash: sha256(example.question),
    sampleIndex: item.sampleIndex,
    promptHash: promptHash(messages),
    text,
    finishReason: answer?.finishReason ?? 'other',
    gold: example.gold,
    latencyMs: Math.round(asked.latencyMs),
    tryCount: asked.tryCount,
    teacher: teacherName(teacher.identity),
    collectedAt: new Date(clock.now()).toISOString(),
    ...(verdict ?? { status: 'failed' as const, reason: asked.outcome === 'refused' ? 'refused' : 'unanswered' }),
    strictExtraction,
    flexibleExtraction,
    strict,
    flexible,
    followsFormat,
    ...(asked.outcome !== 'answered' && { detail: problemOf(asked) }),
    ...(reasoning !== undefined && { reasoning }),
    ...(tokens !== undefined && { tokens: [...tokens] }),
    ...(usage !== undefined && { usage }),
    ...(wastedUsage !== undefined && { wastedUsage }),
    ...(assumedUsage !== undefined && { assumedUsage }),
    ...(whole !== undefined && options.prices !== undefined && { costUsd: costUsd(whole, options.prices) }),
    ...(reportedModel !== undefined && { reportedModel }),
  };
};

/** What went wrong, for reading; errors of other kinds may say anything, and say it where they are thrown. */
const problemOf = (asked: Exclude<Asked, { outcome: 'answered' }>): string => {
  if (asked.outcome !== 'interrupted') return asked.problem.message;
  return asked.thrown instanceof TeacherError ? asked.thrown.message : 'The collection was stopped.';
};
