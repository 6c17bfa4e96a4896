import { basename } from 'node:path';
import { z } from 'zod';
import { armsSchema } from './arm-config.ts';
import { collectionSection } from './collection-section.ts';
import type { ConfigContext } from './config-context.ts';
import { contradictions } from './contradictions.ts';
import { curationSettings, runCurationSchema } from './curation-section.ts';
import { departuresSchema } from './departures.ts';
import { methodsSchema } from './method-config.ts';
import { pathText } from './path-text.ts';
import { patternText } from './pattern-text.ts';
import { searchSchema } from './search-config.ts';
import { studentSchema } from './student-config.ts';
import { taskSchema } from './task-config.ts';
import { teacherSection } from './teacher-section.ts';
import { engineSchema, trainingSchema } from './training-config.ts';

const samplingSchema = z
  .strictObject({
    maximumTokens: z.int().min(1).default(256).describe('An answer that is longer counts as failed.'),
    temperature: z.number().min(0).default(0.7).describe('0 is greedy.'),
    topP: z.number().gt(0).max(1).default(0.95),
    seed: z.int().min(0).default(0),
    answersPerQuestion: z.int().min(1).default(1),
    accept: z
      .array(z.enum(['length', 'content-filter']))
      .default([])
      .describe('Answers that ended so are learnt from; by default they count as failed.'),
  })
  .describe('How the teacher answers.');

const evaluationSchema = z
  .strictObject({
    maximumTokens: z.int().min(1).default(200),
    temperature: z.number().min(0).default(0).describe('0 is greedy.'),
    topP: z.number().gt(0).max(1).default(1),
    batchSize: z.int().min(1).exactOptional().describe('Questions answered together; without it, the engine chooses.'),
    untouched: z.boolean().default(true).describe('Measure the student as it came, too.'),
    teacher: z.boolean().default(true).describe('Measure the teacher itself, too.'),
    primed: z
      .boolean()
      .default(true)
      .describe('Measure the untouched student under each priming, too: what asking alone does, without distillation.'),
    fewShots: z
      .strictObject({
        examples: z.int().min(0).default(4).describe('How many; 0: the row is left out.'),
        seed: z.int().min(0).default(0).describe('Draws them.'),
      })
      .prefault({})
      .describe('Measure the untouched student after worked examples of the training split, too, as turns of the chat.'),
    likelihood: z.boolean().default(true).describe("Measure the log-likelihood of the test questions' own solutions, too."),
  })
  .describe('How students are measured.');

const comparisonSchema = z
  .strictObject({
    measure: z.enum(['strict', 'flexible', 'likelihood']).default('strict').describe('The score that decides; the others stand beside it.'),
    baseline: z.string().exactOptional().describe('The arm that the others are compared with; without it, none, or the first arm.'),
    compared: z
      .array(z.string())
      .exactOptional()
      .describe('The arms whose comparison was planned; without it, every primed or selected one.'),
  })
  .describe('What is compared, said before it is measured.');

const givenSchema = (context: ConfigContext) =>
  z.strictObject({
    $schema: z.string().exactOptional(),
    name: patternText(/^[A-Za-z0-9][\w.-]*$/, 'letters and digits, with -, _ or . between them').describe(
      "The run's name, and its folder's.",
    ),
    note: z.string().min(1).exactOptional().describe('What the run is, and what it is not: stands above its numbers.'),
    output: pathText(context, "The run's folder; without it, runs/NAME where the command is given.").exactOptional(),
    seeds: z.array(z.int().min(0)).min(1).default([0]).describe('One student is trained for each arm and seed.'),
    task: taskSchema(context),
    teacher: teacherSection(context).exactOptional(),
    sampling: samplingSchema.prefault({}),
    collection: collectionSection(context).prefault({}),
    curation: runCurationSchema.prefault({}),
    student: studentSchema(context),
    training: trainingSchema.prefault({}),
    search: searchSchema.exactOptional(),
    methods: methodsSchema.exactOptional(),
    departures: departuresSchema.exactOptional(),
    arms: armsSchema(context),
    evaluation: evaluationSchema.prefault({}),
    comparison: comparisonSchema.prefault({}),
    engine: engineSchema.prefault({}),
  });

type GivenConfig = z.output<ReturnType<typeof givenSchema>>;

/** Everything that one `retort run` does. */
export const runSchema = (context: ConfigContext) =>
  givenSchema(context)
    .superRefine((config, issues) => {
      for (const { path, message } of contradictions(config)) issues.addIssue({ code: 'custom', path: [...path], message });
    })
    .transform(({ $schema: _, ...config }) => ({
      ...config,
      curation: curationSettings(config.curation, config.task.name === 'word-problems'),
      student: { ...config.student, name: config.student.name ?? modelName(config.student.model) },
      comparison: withDefaults(config),
    }));

export type RunConfig = z.output<ReturnType<typeof runSchema>>;

/** The last part of a model's path or repository, without what follows the first dot of a file's name. */
const modelName = (model: string): string =>
  basename(model)
    .replace(/@.*$/, '')
    .replace(/\.gguf$/, '');

const withDefaults = ({ comparison, arms }: Pick<GivenConfig, 'comparison' | 'arms'>) => ({
  measure: comparison.measure,
  baseline: comparison.baseline ?? (arms.find(({ name }) => name === 'none') ?? arms[0])?.name ?? 'none',
  compared:
    comparison.compared ??
    arms.filter(({ kind, name }) => (kind === 'strategy' || kind === 'selected') && name !== 'none').map(({ name }) => name),
});
