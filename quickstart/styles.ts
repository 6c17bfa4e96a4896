import { calculationText, type WordProblem, workedSolution } from '../src/tasks/word-problem-generator.ts';
import type { Operator } from '../src/tasks/word-problem-stories.ts';
import { type Calculation } from '../src/tasks/word-problem-stories.ts';

/** The ways of answering that the quickstart's teacher was taught. All end in '#### answer', as the task asks. */
export type StyleName = 'terse' | 'steps' | 'explained' | 'checked';

export interface Style {
  /** The answer to a problem in this style. */
  readonly answer: (problem: WordProblem) => string;
  /**
   * Instructions that ask for it: `[a|b]` stands for one of the alternatives. The quickstart's own priming texts are not among them; a
   * test sees to it.
   */
  readonly instructions: readonly string[];
}

const ending = (problem: WordProblem): string => `#### ${problem.gold}`;

const calculations = (problem: WordProblem): string => problem.steps.map((step) => `${calculationText(step)}\n`).join('');

/** The calculation that leads back: 5+3=8 is checked by 8-3=5. */
const inverse = ({ left, operator, right, result }: Calculation): Calculation => ({
  left: result,
  operator: inverseOperators[operator],
  right,
  result: left,
});

const inverseOperators: Record<Operator, Operator> = { '+': '-', '-': '+', '*': '/', '/': '*' };

const checks = (problem: WordProblem): string =>
  `Check: ${problem.steps
    .toReversed()
    .map((step) => calculationText(inverse(step)))
    .join(', ')}\n`;

export const styles: Record<StyleName, Style> = {
  terse: {
    answer: ending,
    instructions: [
      '[Only|Just] [give|write|say] the [answer|number|result][, please|, nothing else|, no steps|].',
      '[Do not|Never|You need not] [explain anything|explain it|show your work|write any steps|show the calculations].',
      '[Answer|Reply|Respond] with [one number|a single number|nothing but the number|one line].',
      '[No|Without any|Skip all] [steps|explanation|calculations|words]: [only|just] the [number|answer|result].',
      'I [only|just] [need|want] the [number|answer|result][, no explanation|, not the steps|].',
    ],
  },
  steps: {
    answer: (problem) => calculations(problem) + ending(problem),
    instructions: [
      '[Write|Show|Give|Put down] [only|just|all] the [calculations|sums][, one per line|, one after another|, no words|].',
      '[Work|Calculate|Go] step by step[, without words|, no words| and use few words|].',
      '[Keep it|Be|Stay] [short|brief] but [show|write|give] [every|each] [calculation|step|sum].',
      '[A small|Another|A little|A weak] model [will learn|learns|should learn] from [this|your answer], so [write|show] [short|simple|plain] [calculations|steps].',
      '[No|Skip the|Leave out the] [talk|words|explanation], but [show|write|give] [every|each] [calculation|sum].',
      '[Put|Write] one [plain|short|simple] [calculation|sum] after [another|the other][, no talk| and nothing else|].',
      'I want to [see|have] [the calculations|every calculation|each sum][, nothing more|, no words|].',
    ],
  },
  explained: {
    answer: workedSolution,
    instructions: [
      '[Explain|Describe|Teach] [every step|each step|the way|how it goes] to [a beginner|a child|a pupil|someone new to this|a person who never saw such a problem].',
      '[You are|Act as|Be] a [patient|kind|good|friendly] teacher and [explain|say] what [each|every] [calculation|step] [is for|means].',
      '[Say|Tell|Write] in [words|plain words|simple words] what [each|every] [calculation|number|step] [means|is for|stands for].',
      '[Give|Add|Write] [a reason|the reason|your reason] for [every|each] [step|calculation].',
      '[Make sure|See to it] that a [child|beginner|pupil] can [follow|understand|learn from] [it|every step|your answer].',
      '[Give|Tell|Explain] [your|the] reasons [as|like] a [kind|patient|good] [teacher|friend].',
      '[Teach|Help] [a child|a pupil|a beginner] to [understand|follow] [why|what you do and why].',
    ],
  },
  checked: {
    answer: (problem) => calculations(problem) + checks(problem) + ending(problem),
    instructions: [
      '[When you are done|At the end|After that|Once done|Finally], [check|verify|test] [your answer|the result|every step|the calculations] [again|once more|backwards].',
      '[Check|Verify|Prove|Test] [your answer|the result|each calculation] [at the end|by calculating backwards|once more].',
      '[Are you sure|Is it right]? [Check|Verify|Test] it[ again| once more| backwards|].',
      '[Show|Write|Give] the calculations and [check|verify|test] them[ again| afterwards|].',
      '[Do not|Never] [answer|stop] before you have [checked|verified|tested] [it|your answer|every step].',
      '[Be sure|Make sure] [of it|that it is right]: [check|verify|test] [it|everything|all calculations] [again|once more|at the end].',
      'I want to be sure, so [check|verify|test] [the result|every step|it all] [again|once more].',
    ],
  },
};
