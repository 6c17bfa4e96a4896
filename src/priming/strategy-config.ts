import { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';
import { solutionMark } from './primed-messages.ts';
import { strategies } from './strategies.ts';
import type { PrimingStrategy } from './strategy.ts';

/** A strategy in a config: the name of one that comes with the project, or the user's own text. */
export const strategySchema = z.union([z.string(), ownStrategySchema()]);

export type StrategyConfig = z.infer<typeof strategySchema>;

function ownStrategySchema() {
  return z
    .strictObject({
      name: z
        .string()
        .regex(
          /^[a-z0-9]+(?:[-._][a-z0-9]+)*$/,
          'expected lower-case letters, digits, and single hyphens, dots or underscores between them',
        )
        .describe('A name of your own; it becomes the name of the arm.'),
      text: z.string().min(1).describe(`What the teacher is told. ${solutionMark} stands for the data set's own solution.`),
      placement: z
        .enum(['system', 'before', 'after'])
        .default('before')
        .describe("Before or after the question, or as system message, which replaces a chat template's default one."),
      version: z.int().min(1).default(1).describe('Raise it when you want answers collected anew although the text is the same.'),
    })
    .describe('A priming strategy of your own.');
}

/** The strategy that a config means. A misspelt name, and an own strategy under a name that is taken, are the user's mistakes. */
export const strategyFromConfig = (config: StrategyConfig, path = 'strategies'): PrimingStrategy => {
  const known = Object.keys(strategies);
  if (typeof config === 'string') {
    const strategy = Object.hasOwn(strategies, config) ? strategies[config] : undefined;
    if (strategy !== undefined) return strategy;
    const nearest = nearestName(config, known);
    throw new UserError(
      `${path}: no priming strategy is called ${JSON.stringify(config)}.${nearest === undefined ? '' : ` Did you mean ${nearest}?`} ` +
        `Known: ${known.join(', ')}; or write your own as {name, text, placement}.`,
    );
  }
  if (Object.hasOwn(strategies, config.name) || reservedNames.includes(config.name))
    throw new UserError(`${path}: the name ${JSON.stringify(config.name)} is taken. Give your strategy another one.`);
  return { ...config, seesSolution: config.text.includes(solutionMark) };
};

/** Sources of answers that are no strategies, and subjects of evaluation. */
const reservedNames: readonly string[] = ['gold', 'shuffled', 'recorded', 'untouched'];
