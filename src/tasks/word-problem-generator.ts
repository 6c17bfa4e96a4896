import { createHash } from 'node:crypto';
import { InternalError } from '../base/errors.ts';
import { type Random, randomFrom, shuffled } from '../base/random.ts';
import type { Example } from './task.ts';
import {
  boxes,
  type Calculation,
  commonQuestions,
  endings,
  happenings,
  names,
  openings,
  type StoryEvent,
  type StoryNumbers,
  things,
} from './word-problem-stories.ts';

/**
 * `pretrain` is what the quickstart's teacher and student were made of, `train` is what a teacher answers, `test` is what students are
 * measured on. A problem belongs to the part that its calculations hash to, so that no two parts share one, whatever seeds are drawn with.
 */
export type WordProblemPart = 'pretrain' | 'train' | 'test';

/** A problem with the calculations that lead to its answer: what styles of answering are written from. */
export interface WordProblem extends Example {
  readonly part: WordProblemPart;
  /** The story's sentences, without the final question. */
  readonly sentences: readonly string[];
  readonly finalQuestion: string;
  /** The first value, where the story names it rather than having it calculated: 'Tom has 5 apples'. */
  readonly start: string | undefined;
  readonly steps: readonly SolutionStep[];
}

export interface SolutionStep extends Calculation {
  readonly reason: string;
}

export interface WordProblemOptions {
  readonly part: WordProblemPart;
  readonly seed: number;
  readonly count: number;
  /** How many calculations lead to the answer: 2 to 3 where absent. */
  readonly fewestSteps?: number;
  readonly mostSteps?: number;
}

/**
 * Problems that are all different, each a function of the options but for the count: more of them never change the first.
 *
 * @example
 * const [problem] = generateWordProblems({ part: 'test', seed: 1, count: 1 });
 */
export const generateWordProblems = (options: WordProblemOptions): WordProblem[] => {
  const { part, seed, count, fewestSteps = 2, mostSteps = 3 } = options;
  const seen = new Set<string>();
  return Array.from({ length: count }, (_, index) => {
    const random = randomFrom(seed, 'word-problems', part, index);
    for (let attempt = 0; attempt < 1000; attempt++) {
      const problem = drawProblem(random, `word-problems-${part}-${seed}-${index}`);
      if (problem === undefined || problem.part !== part || seen.has(problem.question)) continue;
      if (problem.steps.length < fewestSteps || problem.steps.length > mostSteps) continue;
      seen.add(problem.question);
      return problem;
    }
    throw new InternalError(`1000 draws gave no new word problem for ${part}, seed ${seed}, after ${index} of ${count}`);
  });
};

/** The calculations as they are written in solutions: '5+3=8'. */
export const calculationText = ({ left, operator, right, result }: Calculation): string => `${left}${operator}${right}=${result}`;

/** The part that a list of calculations belongs to: 70 % pretrain, 15 % train, 15 % test. */
export const partOf = (steps: readonly Calculation[]): WordProblemPart => {
  const share = createHash('sha256').update(steps.map(calculationText).join(' ')).digest().readUInt16LE(0) / 65536;
  return share < 0.7 ? 'pretrain' : share < 0.85 ? 'train' : 'test';
};

/** One draw; undefined where no numbers suit the events chosen. */
const drawProblem = (random: Random, id: string): WordProblem | undefined => {
  const fill = drawScene(random);
  const events = drawEvents(random);
  const sentences: string[] = [];
  const steps: SolutionStep[] = [];
  let start: string | undefined;
  let value = 0;
  for (const event of events) {
    const numbers = event.draw(value, random);
    if (numbers === undefined) return undefined;
    sentences.push(fill(pick(event.wordings, random), numbers));
    const calculations = event.calculate(value, numbers);
    calculations.forEach((calculation, index) => {
      steps.push({ ...calculation, reason: fill(event.reasons[index] ?? '', numbers) });
    });
    if (calculations.length === 0) start = fill(event.reasons[0] ?? '', numbers);
    value = calculations.at(-1)?.result ?? numbers.n;
  }
  const finalQuestion = fill(pick(events.at(-1)?.questions ?? commonQuestions, random), { n: 0, m: 0 });
  const problem = { id, part: partOf(steps), question: [...sentences, finalQuestion].join(' '), sentences, finalQuestion, start, steps };
  return { ...problem, solution: workedSolution({ start, steps }), gold: String(value) };
};

/** An opening, up to two happenings, and in a third of the stories an ending of its own kind. */
const drawEvents = (random: Random): readonly StoryEvent[] => {
  const middle = Array.from({ length: random.integer(3) }, () => pick(happenings, random));
  const ending = random.uniform() < 1 / 3 ? [pick(endings, random)] : [];
  return [pick(openings, random), ...middle, ...ending];
};

/** Who and what the story is about, as a function that fills a wording's braces. */
const drawScene = (random: Random): ((wording: string, numbers: StoryNumbers) => string) => {
  const [a = '', b = '', c = ''] = shuffled(names, random);
  const words: Record<string, string> = { A: a, B: b, C: c, things: pick(things, random), boxes: pick(boxes, random) };
  return (wording, { n, m }) =>
    wording.replace(/\{(\w+)\}/g, (braces, key: string) => {
      const word = key === 'n' ? String(n) : key === 'm' ? String(m) : words[key];
      if (word === undefined) throw new InternalError(`wording '${wording}' names ${braces}, which no story has`);
      return word;
    });
};

/** The data set's own solution: a line for each calculation with its reason, then '#### answer'. */
export const workedSolution = ({ start, steps }: Pick<WordProblem, 'start' | 'steps'>): string =>
  [
    ...(start === undefined ? [] : [`${start}.`]),
    ...steps.map((step) => `${step.reason}: ${calculationText(step)}.`),
    `#### ${steps.at(-1)?.result}`,
  ].join('\n');

const pick = <T>(items: readonly T[], random: Random): T => {
  const item = items[random.integer(items.length)];
  if (item === undefined) throw new InternalError('nothing to pick from');
  return item;
};
