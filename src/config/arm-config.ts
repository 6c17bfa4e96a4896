import { z } from 'zod';
import { nearestName } from '../base/errors.ts';
import { solutionMark } from '../priming/primed-messages.ts';
import { strategies } from '../priming/strategies.ts';
import type { PrimingStrategy } from '../priming/strategy.ts';
import { type KeepPolicy, keepPolicies } from '../responses/select.ts';
import type { ConfigContext } from './config-context.ts';
import { pathText } from './path-text.ts';
import { armNameText } from './pattern-text.ts';

/** Where an arm's training answers come from. `name` is the arm's name in tables and folders, unique in a run. */
export type ArmConfig =
  | { readonly kind: 'strategy'; readonly name: string; readonly strategy: PrimingStrategy }
  /** `strategy`: what the teacher was told when its logits for the solutions were taken; absent: nothing. */
  | { readonly kind: 'gold'; readonly name: string; readonly strategy?: PrimingStrategy }
  /** Another arm's answers under the wrong questions: format without content. */
  | { readonly kind: 'shuffled'; readonly name: string; readonly of: string }
  /** A choice among another arm's answers, under that arm's strategy if it has one. */
  | {
      readonly kind: 'selected';
      readonly name: string;
      readonly of: string;
      readonly keep: KeepPolicy;
      readonly strategy?: PrimingStrategy;
    }
  | { readonly kind: 'recorded'; readonly name: string; readonly file: string };

const knownNames = [...Object.keys(strategies), 'gold'] as const;

const armSchema = (context: ConfigContext) =>
  z.union([
    z.enum(knownNames).describe("A priming strategy that comes with retort, or gold: the data set's own solutions."),
    z
      .strictObject({
        name: armNameText(),
        text: z.string().min(1).describe(`What the teacher is told. ${solutionMark} stands for the data set's own solution.`),
        placement: z.enum(['system', 'before', 'after']).default('before'),
        version: z.int().min(1).default(1).describe('Raise it to collect answers anew under the same text.'),
      })
      .describe('A priming strategy of your own.'),
    z
      .strictObject({
        gold: z
          .enum(Object.keys(strategies))
          .describe("The strategy under which the teacher reads the data set's solutions: its logits for them are learnt."),
        name: armNameText().exactOptional(),
      })
      .describe("The data set's own solutions, with a local teacher's logits under a priming (loss: distillation)."),
    z
      .strictObject({
        shuffled: z.string().min(1).describe('The arm whose answers are shuffled.'),
        name: armNameText().default('shuffled'),
      })
      .describe("Another arm's answers under the wrong questions: a control."),
    z
      .strictObject({
        selected: z.string().min(1).describe('The arm whose answers are chosen among.'),
        keep: z.enum(keepPolicies).describe('Which of them: as collection.keep, which does not matter here.'),
        name: armNameText().exactOptional(),
      })
      .describe("A choice among another arm's answers, which are not bought again: rejection sampling, best of n, majority."),
    z
      .strictObject({
        recorded: pathText(context, 'Answers from elsewhere, one JSON object a line: id, answer.'),
        name: armNameText().default('recorded'),
      })
      .describe('Answers that you have already.'),
  ]);

/** The arms of a run, with names that are unique and shuffled arms that point at one of the others. */
export const armsSchema = (context: ConfigContext) =>
  z
    .array(armSchema(context))
    .min(1)
    .transform((given) => withStrategies(given.map(resolveArm)))
    .superRefine((arms, issues) => {
      const names = arms.map(({ name }) => name);
      arms.forEach((arm, index) => {
        const problem = armProblem(arm, index, names, arms);
        if (problem !== undefined) issues.addIssue({ code: 'custom', path: [index], message: problem });
      });
    })
    .describe('Where training answers come from: one student is trained for each arm and seed.');

const resolveArm = (given: z.output<ReturnType<typeof armSchema>>): ArmConfig => {
  if (typeof given === 'string') {
    const strategy = strategies[given];
    return strategy === undefined ? { kind: 'gold', name: given } : { kind: 'strategy', name: given, strategy };
  }
  if ('gold' in given) {
    const strategy = strategies[given.gold];
    return { kind: 'gold', name: given.name ?? `gold-${given.gold}`, ...(strategy !== undefined && { strategy }) };
  }
  if ('shuffled' in given) return { kind: 'shuffled', name: given.name, of: given.shuffled };
  if ('selected' in given) {
    const { selected, keep, name = `${selected}-${keep}` } = given;
    return { kind: 'selected', name, of: selected, keep };
  }
  if ('recorded' in given) return { kind: 'recorded', name: given.name, file: given.recorded };
  return { kind: 'strategy', name: given.name, strategy: { ...given, seesSolution: given.text.includes(solutionMark) } };
};

/** A selected arm's answers were given under the strategy of the arm that they are of. */
const withStrategies = (arms: readonly ArmConfig[]): ArmConfig[] =>
  arms.map((arm) => {
    const of = arm.kind === 'selected' ? arms.find(({ name }) => name === arm.of) : undefined;
    return arm.kind === 'selected' && of?.kind === 'strategy' ? { ...arm, strategy: of.strategy } : arm;
  });

const armProblem = (arm: ArmConfig, index: number, names: readonly string[], arms: readonly ArmConfig[]): string | undefined => {
  if (names.indexOf(arm.name) !== index) return `a second arm is called ${arm.name}. Give one of the two another name`;
  if (arm.kind === 'strategy' && arm.strategy !== strategies[arm.name] && takenNames.includes(arm.name)) {
    return `the name ${arm.name} is taken. Give your strategy another one`;
  }
  if (arm.kind !== 'shuffled' && arm.kind !== 'selected') return undefined;
  const others = arms.filter(({ kind }) => sourceKinds[arm.kind].includes(kind)).map(({ name }) => name);
  if (others.includes(arm.of)) return undefined;
  const nearest = nearestName(arm.of, others);
  const hint = nearest === undefined ? '' : ` Did you mean ${nearest}?`;
  const does = arm.kind === 'shuffled' ? 'shuffles' : 'chooses among';
  return `${does} the answers of ${arm.of}, which is no arm of this run that has answers of its own.${hint} Arms: ${others.join(', ')}`;
};

/** Whose answers an arm can take. */
const sourceKinds: Record<'shuffled' | 'selected', readonly ArmConfig['kind'][]> = {
  shuffled: ['strategy', 'gold', 'recorded', 'selected'],
  selected: ['strategy', 'recorded'],
};

/** What the teacher is told for an arm, in answering or in reading; undefined: nothing. */
export const primingOf = (arm: ArmConfig): PrimingStrategy | undefined =>
  (arm.kind === 'strategy' || arm.kind === 'selected' || arm.kind === 'gold') && arm.strategy?.text !== '' ? arm.strategy : undefined;

/** Names that tables use for something else. */
const takenNames: readonly string[] = [...knownNames, 'shuffled', 'recorded', 'untouched'];
