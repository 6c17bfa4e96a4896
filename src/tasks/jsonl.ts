import { UserError } from '../base/errors.ts';
import { objectOf, optionalStringField, stringField } from './data-line.ts';
import { scoreNumber } from './number-scores.ts';
import type { AnswerScore, Task } from './task.ts';

/** A task of the user's own: rows of whatever `readRows` reads. */
export interface JsonlTaskOptions {
  readonly name: string;
  /** Told to teacher and student alike; '' for nothing. */
  readonly instruction: string;
  readonly fields: {
    readonly question: string;
    /** The final answer alone. */
    readonly answer: string;
    /** A worked solution to learn from; absent: the answer is the solution. */
    readonly solution?: string;
    /** Unique ids; absent: `name-split-index`. */
    readonly id?: string;
  };
  readonly scorer: JsonlScorer;
}

/** How an answer is read. Strict and flexible differ where a looser reading makes sense. */
export type JsonlScorer =
  /** The whole answer, without white space around it (strict); flexible: without regard to case, spacing and a final full stop. */
  | { readonly kind: 'exact' }
  /** As GSM8K is scored: `#### number` (strict), the last number (flexible). */
  | { readonly kind: 'number' }
  /** The first group (or match) of a pattern: of its first match (strict), of its last, without regard to case (flexible). */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** One of some labels, whatever its case: the whole answer (strict), or the only one of them that stands in it (flexible). */
  | { readonly kind: 'label'; readonly labels: readonly string[] };

/** Makes a task of a user's own data. A pattern that is no regular expression is a UserError. */
export const jsonlTask = (options: JsonlTaskOptions): Task => {
  const { name, instruction, fields } = options;
  const score = scorerOf(options.scorer);
  return {
    name,
    instruction,
    columns: Object.values(fields),
    parseExample: (value, { split, index, where }) => {
      const line = objectOf(value, where);
      const gold = stringField(line, fields.answer, where).trim();
      return {
        id: (fields.id === undefined ? undefined : stringField(line, fields.id, where)) ?? `${name}-${split}-${index}`,
        question: stringField(line, fields.question, where).trim(),
        solution: (fields.solution === undefined ? undefined : optionalStringField(line, fields.solution, where)?.trim()) ?? gold,
        gold,
      };
    },
    score: (answer, example) => score(answer, example.gold),
  };
};

const scorerOf = (scorer: JsonlScorer): ((answer: string, gold: string) => AnswerScore) => {
  if (scorer.kind === 'number') return scoreNumber;
  if (scorer.kind === 'exact') return scoreExact;
  if (scorer.kind === 'label') return labelScorer(scorer.labels);
  const pattern = compilePattern(scorer.pattern);
  return (answer, gold) => {
    const found = [...answer.matchAll(pattern)].map((match) => (match[1] ?? match[0]).trim());
    return {
      strictExtraction: found[0],
      flexibleExtraction: found.at(-1),
      strict: found[0] === gold,
      flexible: found.length > 0 && loosely(found.at(-1) ?? '') === loosely(gold),
      followsFormat: found.length > 0,
    };
  };
};

const labelScorer = (labels: readonly string[]) => {
  // Longer ones first: `very good` is not `good`.
  const alternatives = labels
    .map(loosely)
    .toSorted((a, b) => b.length - a.length)
    .map((label) => label.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
  const anywhere = new RegExp(`(?<![\\p{L}\\p{N}])(?:${alternatives.join('|')})(?![\\p{L}\\p{N}])`, 'giu');
  return (answer: string, gold: string): AnswerScore => {
    const strictExtraction = labels.find((label) => loosely(label) === loosely(answer));
    const found = new Set(loosely(answer).match(anywhere) ?? []);
    const flexibleExtraction = found.size === 1 ? [...found][0] : undefined;
    return {
      strictExtraction,
      flexibleExtraction,
      strict: strictExtraction !== undefined && loosely(strictExtraction) === loosely(gold),
      flexible: flexibleExtraction === loosely(gold),
      followsFormat: strictExtraction !== undefined,
    };
  };
};

const scoreExact = (answer: string, gold: string): AnswerScore => {
  const extraction = answer.trim() === '' ? undefined : answer.trim();
  return {
    strictExtraction: extraction,
    flexibleExtraction: extraction,
    strict: extraction === gold,
    flexible: extraction !== undefined && loosely(extraction) === loosely(gold),
    followsFormat: extraction !== undefined,
  };
};

const loosely = (text: string): string =>
  text
    .normalize('NFC')
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/\s?\.$/, '')
    .toLowerCase();

const compilePattern = (pattern: string): RegExp => {
  try {
    return new RegExp(pattern, 'gu');
  } catch (error) {
    throw new UserError(`The scorer's pattern ${JSON.stringify(pattern)} is not a regular expression: ${String(error)}.`, { cause: error });
  }
};
