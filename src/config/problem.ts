import type { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';

/** One thing that is wrong with a config. */
export interface ConfigProblem {
  /** `config.student.parameters.rank`. */
  readonly path: string;
  /** `gsm8k.yaml:12`, or what else the value came from. */
  readonly where: string;
  /** What was expected, what came, and the nearest known name. */
  readonly message: string;
}

/** A config with problems, all of them listed. */
export class ConfigError extends UserError {
  override name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];
  constructor(file: string, problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ where, path, message }) => `  ${where}: ${path}: ${message}`);
    super(`${file} cannot be used as it is:\n${lines.join('\n')}`);
    this.problems = problems;
  }
}

/** A path into a config as people write it: `config.arms[2].text`. */
export const pathName = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}.${String(key)}`), 'config');

/**
 * The words for a problem, for zod's `error` option: it is called where the schema is still at hand, so that known names can be listed.
 * Undefined leaves the words to zod.
 */
export const problemMessage: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(key, keysOf(issue.inst))).join('. ');
    case 'invalid_type':
      return issue.input === undefined
        ? `missing. Expected ${kindNames[issue.expected] ?? issue.expected}`
        : mismatch(issue.expected, issue.input);
    case 'invalid_value':
      return unknownChoice(issue.input, issue.values.map(String));
    case 'invalid_union':
      return issue.errors.length === 0 && 'options' in issue && Array.isArray(issue.options)
        ? unknownChoice(choiceIn(issue.input, issue.discriminator), issue.options.map(String))
        : undefined;
    case 'too_small':
      return issue.origin === 'array' || issue.origin === 'string'
        ? 'is empty'
        : `expected ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}, came ${show(issue.input)}`;
    case 'too_big':
      return `expected ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}, came ${show(issue.input)}`;
    default:
      return undefined;
  }
};

const kindNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'keys and values',
};

const mismatch = (expected: string, input: unknown): string => {
  const hint = expected === 'string' && (typeof input === 'number' || typeof input === 'boolean') ? `. Put it in quotes: '${input}'` : '';
  return `expected ${kindNames[expected] ?? expected}, came ${show(input)}${hint}`;
};

const unknownKey = (key: string, known: readonly string[]): string => {
  const nearest = nearestName(key, known);
  return `unknown key \`${key}\`.${nearest === undefined ? '' : ` Did you mean \`${nearest}\`?`} Known: ${known.join(', ')}`;
};

const unknownChoice = (input: unknown, known: readonly string[]): string => {
  const nearest = typeof input === 'string' ? nearestName(input, known) : undefined;
  const came = input === undefined ? 'missing' : `came ${show(input)}`;
  return `expected ${known.length === 1 ? known[0] : `one of ${known.join(', ')}`}; ${came}.${nearest === undefined ? '' : ` Did you mean ${nearest}?`}`;
};

const choiceIn = (input: unknown, key: string | undefined): unknown =>
  typeof input === 'object' && input !== null && key !== undefined ? Object.entries(input).find(([name]) => name === key)?.[1] : input;

/** The keys that an object schema knows. */
const keysOf = (schema: { readonly _zod: { readonly def: object } } | undefined): string[] => {
  const definition = schema?._zod.def;
  const shape: unknown = definition !== undefined && 'shape' in definition ? definition.shape : undefined;
  return typeof shape === 'object' && shape !== null ? Object.keys(shape).filter((key) => key !== '$schema') : [];
};

/** A value as it stands in the config, shortened. */
export const show = (value: unknown): string => {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return `keys and values (${Object.keys(value).slice(0, 4).join(', ')})`;
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
};

/** A problem by its path from the config's root, with the key itself where a key is unknown. */
export interface LocatedProblem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** The problem is the name of the last part of the path, not its value. */
  readonly isKey: boolean;
}

/**
 * Zod's issues as problems: unknown keys one by one, and of a choice between forms only what is wrong with the form that was most likely
 * meant.
 */
export const problemsOf = (issues: readonly z.core.$ZodIssue[]): LocatedProblem[] => {
  const problems = flatten(issues, []);
  // `rnak` for `rank` is one mistake: that `rank` is then missing need not be said
  const meant = problems.flatMap(({ path, message, isKey }) => {
    const name = isKey ? /Did you mean `(.+?)`/.exec(message)?.[1] : undefined;
    return name === undefined ? [] : [pathName([...path.slice(0, -1), name])];
  });
  return problems.filter(({ path, message }) => !(message.startsWith('missing') && meant.includes(pathName(path))));
};

const flatten = (issues: readonly z.core.$ZodIssue[], above: readonly PropertyKey[]): LocatedProblem[] =>
  issues.flatMap((issue): LocatedProblem[] => {
    const path = [...above, ...issue.path];
    if (issue.code === 'unrecognized_keys') {
      const messages = issue.message.split(/\. (?=unknown key `)/);
      return issue.keys.map((key, index) => ({ path: [...path, key], message: messages[index] ?? issue.message, isKey: true }));
    }
    if (issue.code === 'invalid_union' && issue.errors.length > 0) return flatten(likelyForm(issue.errors), path);
    return [{ path, message: issue.message, isKey: false }];
  });

/** Of the forms that a value may have, the one with the fewest problems, a near miss before others. */
const likelyForm = (forms: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] => {
  const ranked = forms
    .map((issues) => ({ issues, cost: issues.reduce((sum, issue) => sum + cost(issue), 0) }))
    .sort((a, b) => a.cost - b.cost);
  return ranked[0]?.issues ?? [];
};

/** How little a problem looks like what was meant: a value of another kind altogether most, a misspelt name least. */
const cost = (issue: z.core.$ZodIssue): number => {
  const isWhole = issue.path.length === 0;
  if (isWhole && issue.code === 'invalid_type') return 100;
  if (isWhole && issue.code === 'invalid_value') return 10;
  return issue.message.includes('Did you mean') ? -0.5 : 1;
};
