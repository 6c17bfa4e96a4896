import { z } from 'zod';
import { messageOf, UserError } from '../base/errors.ts';

/** Raised when a reader of the old version would misread the new one. */
export const runFormatVersion = 1;

const time = z.iso.datetime();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const machineSchema = z.strictObject({
  platform: z.string(),
  architecture: z.string(),
  processor: z.string(),
  coreCount: z.int().positive(),
  memoryBytes: z.int().nonnegative(),
});

/** Program or library → version: at least `retort-kd`, `node` and `onnxruntime`. */
export const versionsSchema = z.record(z.string(), z.string());

const jsonSchema = z.json();

const stageSchema = z.strictObject({
  status: z.enum(['started', 'done', 'failed']),
  /** Hash of all that decides the stage's result; a stage that is done under another key is done anew. */
  key: z.string(),
  startedAt: time,
  finishedAt: time.optional(),
  durationMs: z.number().nonnegative().optional(),
  /** Relative paths of the files that the stage finished. */
  files: z.array(z.string()),
  /** What the stage found out about its work: counts, sums. */
  facts: z.record(z.string(), jsonSchema),
  error: z.string().optional(),
});

export const protocolSchema = z.strictObject({
  task: z.string(),
  /** Hash of the task's instruction text, identical in every arm. */
  instruction: z.string(),
  /** The score that decides; the other stands beside it. */
  primaryMeasure: z.enum(['strict', 'flexible', 'likelihood']),
  /** The source of answers that every arm is compared with. */
  baseline: z.string(),
  /** Sources whose difference to the baseline is the declared family of comparisons; every other comparison is exploratory. */
  compared: z.array(z.string()),
  testQuestionCount: z.int().nonnegative(),
  /** What the config says that the run is and is not: stands above its numbers. */
  note: z.string().exactOptional(),
  /** What the run does against a sound protocol, by name. */
  departures: z.array(z.string()).exactOptional(),
});

const manifestSchema = z.strictObject({
  format: z.literal('retort-run'),
  formatVersion: z.literal(runFormatVersion),
  name: z.string(),
  createdAt: time,
  /** The folder that the config's paths start from, relative to the run's: both may move together. */
  configFolder: z.string().exactOptional(),
  /** SHA-256 of config.resolved.json's canonical form. */
  configHash: sha256,
  protocol: protocolSchema,
  /** Each start of a process on this run: a run may be continued on another machine, and that is then said. */
  sessions: z.array(z.strictObject({ startedAt: time, versions: versionsSchema, machine: machineSchema })).min(1),
  /** The stages that the config asks for: what is not among the done ones is missing. */
  plannedStages: z.array(z.string()),
  stages: z.record(z.string(), stageSchema),
  files: z.record(z.string(), z.strictObject({ sha256, sizeBytes: z.int().nonnegative() })),
  warnings: z.array(z.strictObject({ at: time, stage: z.string(), message: z.string() })),
  /** Each time that answers to test questions were scored. */
  testOpenings: z.array(z.strictObject({ at: time, what: z.string() })),
});

export type RunManifest = z.infer<typeof manifestSchema>;
export type StageRecord = z.infer<typeof stageSchema>;
export type Machine = z.infer<typeof machineSchema>;
export type Versions = z.infer<typeof versionsSchema>;
export type Protocol = z.infer<typeof protocolSchema>;
export type Json = z.infer<typeof jsonSchema>;

/** Parses the text of a manifest; `where` names the file in errors. */
export const parseManifest = (text: string, where: string): RunManifest => {
  const value = parseJson(text, where);
  const version = z.looseObject({ format: z.literal('retort-run'), formatVersion: z.int() }).safeParse(value);
  if (!version.success) throw new UserError(`${where} is not the manifest of a run: it lacks "format": "retort-run" and a format version.`);
  if (version.data.formatVersion !== runFormatVersion) {
    throw new UserError(
      `${where} has run format ${version.data.formatVersion}; this version of retort reads format ${runFormatVersion}. Read it with the version that wrote it.`,
    );
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) throw new UserError(`${where} is damaged or was edited by hand:\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
};

const parseJson = (text: string, where: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${where} is not JSON: ${messageOf(error)}. It is written whole or not at all, so it was edited or the disk is damaged.`,
    );
  }
};
