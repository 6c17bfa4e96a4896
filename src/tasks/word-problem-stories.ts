import type { Random } from '../base/random.ts';

/**
 * What happens in a word problem, as rows: how it is told, which numbers it may name and what is calculated. `{A}` is whom the story is
 * about, `{B}` and `{C}` others, `{things}` what is counted, `{n}` and `{m}` numbers. A new event is one row here.
 */
export interface StoryEvent {
  readonly name: string;
  /** Ways of telling it; none says anything that another does not. */
  readonly wordings: readonly string[];
  /** Numbers that suit the value so far, or undefined where none do. */
  draw(value: number, random: Random): StoryNumbers | undefined;
  /** The calculations in order; the last result is the new value. Openings that name the first value calculate nothing. */
  calculate(value: number, numbers: StoryNumbers): readonly Calculation[];
  /** What each calculation stands for, one for each; an opening without calculation has one too. */
  readonly reasons: readonly string[];
  /** Questions that only this event can end in; absent: the common ones. */
  readonly questions?: readonly string[];
}

export interface StoryNumbers {
  readonly n: number;
  readonly m: number;
}

export interface Calculation {
  readonly left: number;
  readonly operator: Operator;
  readonly right: number;
  readonly result: number;
}

export type Operator = '+' | '-' | '*' | '/';

/** No number in a story or its calculations is larger. */
export const largestNumber = 30;

const operations: Record<Operator, (left: number, right: number) => number> = {
  '+': (left, right) => left + right,
  '-': (left, right) => left - right,
  '*': (left, right) => left * right,
  '/': (left, right) => left / right,
};

const calculation = (left: number, operator: Operator, right: number): Calculation => ({
  left,
  operator,
  right,
  result: operations[operator](left, right),
});

/** Uniform integer from `low` to `high`, both included; undefined where there is none. */
const between = (low: number, high: number, random: Random): number | undefined =>
  high < low ? undefined : low + random.integer(high - low + 1);

const one = (n: number | undefined): StoryNumbers | undefined => (n === undefined ? undefined : { n, m: 0 });

/** n groups of m things, few enough for the times tables of a small model. */
const groups = (room: number, random: Random): StoryNumbers | undefined => {
  const n = 2 + random.integer(4);
  const m = between(2, Math.min(9, Math.floor(room / n)), random);
  return m === undefined ? undefined : { n, m };
};

const swapped = (numbers: StoryNumbers | undefined): StoryNumbers | undefined => numbers && { n: numbers.m, m: numbers.n };

/** How a story begins: the first value and, in most rows, the first calculation. */
export const openings: readonly StoryEvent[] = [
  {
    name: 'has',
    wordings: ['{A} has {n} {things}.', '{A} starts with {n} {things}.', 'In the morning {A} has {n} {things}.'],
    draw: (_, random) => one(between(3, 20, random)),
    calculate: () => [],
    reasons: ['{A} has {n} {things}'],
  },
  {
    name: 'groups',
    wordings: [
      '{A} has {n} {boxes} with {m} {things} in each.',
      '{A} fills {n} {boxes} with {m} {things} each.',
      'There are {n} {boxes} and {A} puts {m} {things} into each.',
    ],
    draw: (_, random) => groups(largestNumber, random),
    calculate: (_, { n, m }) => [calculation(n, '*', m)],
    reasons: ['{n} {boxes} of {m}'],
  },
  {
    name: 'together',
    wordings: [
      '{A} has {n} {things}, {B} has {m}, and they put them together.',
      '{A} finds {n} {things} and {B} finds {m}; {A} takes all of them.',
    ],
    draw: (_, random) => ({ n: 2 + random.integer(11), m: 2 + random.integer(11) }),
    calculate: (_, { n, m }) => [calculation(n, '+', m)],
    reasons: ['Both together'],
  },
  {
    name: 'more-than',
    wordings: ['{B} has {n} {things}. {A} has {m} more than {B}.', '{B} has {n} {things}, and {A} has {m} more.'],
    draw: (_, random) => ({ n: 2 + random.integer(12), m: 2 + random.integer(10) }),
    calculate: (_, { n, m }) => [calculation(n, '+', m)],
    reasons: ['{A} has {m} more than {B}'],
  },
  {
    name: 'fewer-than',
    wordings: ['{B} has {n} {things}. {A} has {m} fewer than {B}.', '{B} has {n} {things}, and {A} has {m} fewer.'],
    draw: (_, random) => ({ n: 13 + random.integer(18), m: 2 + random.integer(9) }),
    calculate: (_, { n, m }) => [calculation(n, '-', m)],
    reasons: ['{A} has {m} fewer than {B}'],
  },
  {
    name: 'times-as-many',
    wordings: ['{B} has {n} {things}. {A} has {m} times as many.', '{B} has {n} {things}, and {A} has {m} times as many.'],
    draw: (_, random) => swapped(groups(largestNumber, random)),
    calculate: (_, { n, m }) => [calculation(n, '*', m)],
    reasons: ['{A} has {m} times {n}'],
  },
];

/** What happens next: the value changes. */
export const happenings: readonly StoryEvent[] = [
  {
    name: 'gain',
    wordings: [
      '{A} buys {n} more.',
      '{A} finds {n} more.',
      '{C} gives {A} {n} more.',
      'Then {A} gets {n} from {C}.',
      '{A} wins {n} {things}.',
    ],
    draw: (value, random) => one(between(2, Math.min(12, largestNumber - value), random)),
    calculate: (value, { n }) => [calculation(value, '+', n)],
    reasons: ['{A} gets {n} more'],
  },
  {
    name: 'loss',
    wordings: [
      '{A} gives {n} to {C}.',
      '{A} loses {n}.',
      '{A} sells {n} of them.',
      'Then {C} takes {n} away.',
      '{A} lends {n} {things} to {C}.',
    ],
    draw: (value, random) => one(between(2, Math.min(12, value - 2), random)),
    calculate: (value, { n }) => [calculation(value, '-', n)],
    reasons: ['{A} has {n} fewer'],
  },
  {
    name: 'doubling',
    wordings: ['Then {A} doubles the {things}.', '{C} gives {A} as many {things} again.'],
    draw: (value) => (value <= largestNumber / 2 ? { n: 2, m: 0 } : undefined),
    calculate: (value) => [calculation(value, '*', 2)],
    reasons: ['Twice as many'],
  },
  {
    name: 'gain-in-groups',
    wordings: ['{A} buys {n} {boxes} with {m} {things} each.', 'Then {C} brings {n} {boxes} of {m} {things}.'],
    draw: (value, random) => groups(Math.min(20, largestNumber - value), random),
    calculate: (value, { n, m }) => [calculation(n, '*', m), calculation(value, '+', n * m)],
    reasons: ['{n} {boxes} of {m}', '{A} gets them too'],
  },
];

/** What only the end of a story can be. */
export const endings: readonly StoryEvent[] = [
  {
    name: 'share',
    wordings: ['{A} shares them equally among {n} friends.', '{A} puts them into {n} {boxes}, as many in each.'],
    draw: (value, random) => {
      const divisors = [2, 3, 4, 5].filter((n) => value % n === 0 && value / n >= 2);
      return one(divisors[random.integer(divisors.length)]);
    },
    calculate: (value, { n }) => [calculation(value, '/', n)],
    reasons: ['{n} equal parts'],
    questions: ['How many {things} are in one part?', 'How many {things} is one share?'],
  },
  {
    name: 'price',
    wordings: ['{A} sells all of them for {n} coins each.', 'Each is worth {n} coins.'],
    draw: (value, random) => one(value > 12 ? undefined : between(2, Math.min(5, Math.floor(largestNumber / value)), random)),
    calculate: (value, { n }) => [calculation(value, '*', n)],
    reasons: ['{n} coins each'],
    questions: ['How many coins is that?', 'How many coins are they worth together?'],
  },
];

/** The questions that every other story ends in. */
export const commonQuestions: readonly string[] = [
  'How many {things} does {A} have now?',
  'How many {things} does {A} have in the end?',
  'How many {things} are left with {A}?',
];

// biome-ignore format: lists of words
export const names: readonly string[] = ['Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Grace', 'Hugo', 'Ida', 'Jack', 'Kim', 'Leo', 'Mia', 'Noah', 'Olga', 'Paul', 'Rosa', 'Sam', 'Tom', 'Vera'];
// biome-ignore format: lists of words
export const things: readonly string[] = ['apples', 'books', 'stamps', 'marbles', 'pencils', 'shells', 'cards', 'stickers', 'cookies', 'eggs', 'flowers', 'stones', 'buttons', 'pears', 'balls', 'plums'];
export const boxes: readonly string[] = ['boxes', 'bags', 'baskets', 'jars'];
