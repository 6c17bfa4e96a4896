import type { ChatMessage } from '../text/chat-message.ts';

export type { ChatMessage };

/**
 * A way of asking a teacher so that its answers are good to learn from (response priming, arXiv 2412.17846). The student never sees it.
 */
export interface PrimingStrategy {
  readonly name: string;
  /** Changes whenever the text does: answers collected under another version are other answers. */
  readonly version: number;
  readonly placement: 'system' | 'before' | 'after';
  /** The priming; '' for the unprimed strategy. `{{solution}}` stands for the gold solution in strategies that see it. */
  readonly text: string;
  /** Whether the teacher is shown the gold solution (only `rationale`). */
  readonly seesSolution: boolean;
}
