import { InternalError } from '../base/errors.ts';
import type { ChatMessage, PrimingStrategy } from './strategy.ts';

/** What messages are made of; a task's `Example` has it. */
export interface PrimingExample {
  readonly question: string;
  readonly solution: string;
}

/**
 * What the student is asked, in training and in evaluation, whatever its teacher was told: the question and the task's instruction. No
 * system message, so that a template's default one stands in every arm alike.
 *
 * @example studentMessages({ question: 'What is 2 + 3?', solution: '5' }, 'Give a number.')
 * // [{ role: 'user', content: 'What is 2 + 3?\n\nGive a number.' }]
 */
export const studentMessages = (example: PrimingExample, instruction: string): ChatMessage[] => [
  { role: 'user', content: paragraphs(example.question, instruction) },
];

/**
 * What the teacher is asked under a strategy: the student's message, whole and in one piece, with the priming before it, after it or as
 * system message. `none` is the student's message itself.
 */
export const primedMessages = (strategy: PrimingStrategy, example: PrimingExample, instruction: string): ChatMessage[] => {
  const unprimed = studentMessages(example, instruction);
  const priming = primingText(strategy, example);
  if (priming === '') return unprimed;
  return placements[strategy.placement](priming, unprimed);
};

const placements: Record<PrimingStrategy['placement'], (priming: string, unprimed: readonly ChatMessage[]) => ChatMessage[]> = {
  system: (priming, unprimed) => [{ role: 'system', content: priming }, ...unprimed],
  before: (priming, unprimed) => unprimed.map(({ role, content }) => ({ role, content: paragraphs(priming, content) })),
  after: (priming, unprimed) => unprimed.map(({ role, content }) => ({ role, content: paragraphs(content, priming) })),
};

/** The solution is put in as it is: a `$&` or another `{{solution}}` in it means nothing. */
const primingText = (strategy: PrimingStrategy, example: PrimingExample): string => {
  const parts = strategy.text.split(solutionMark);
  if (parts.length > 1 !== strategy.seesSolution)
    throw new InternalError(
      `strategy ${strategy.name}: seesSolution is ${strategy.seesSolution}, but its text has ${parts.length - 1} ${solutionMark}`,
    );
  return parts.join(example.solution);
};

/** Stands for the gold solution in the text of a strategy that sees it. */
export const solutionMark = '{{solution}}';

const paragraphs = (...texts: readonly string[]): string => texts.filter((text) => text !== '').join('\n\n');
