import type { FinishReason } from '../teachers/teacher.ts';
import type { FailureReason } from './response.ts';

/** Finish reasons that a config may accept although they are failures by default. */
export type AcceptableFinish = 'length' | 'content-filter';

/** Kept, or failed and why. */
export type Verdict = { readonly status: 'kept' } | { readonly status: 'failed'; readonly reason: FailureReason };

/** Whether an answer can be learnt from, by how it ended. Nothing is learnt from an empty one, whatever is accepted. */
export const judge = (
  answer: { readonly finishReason: FinishReason; readonly isEmpty: boolean },
  accept: readonly AcceptableFinish[],
): Verdict => {
  if (answer.finishReason === 'length' && !accept.includes('length')) return { status: 'failed', reason: 'truncated' };
  if (answer.finishReason === 'content-filter' && !accept.includes('content-filter')) return { status: 'failed', reason: 'content-filter' };
  if (answer.isEmpty) return { status: 'failed', reason: 'empty' };
  return { status: 'kept' };
};
