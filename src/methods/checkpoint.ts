import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { hasCode, sha256OfFile, syncFolder, writeJsonAtomic } from '../base/folders.ts';
import type { EngineState, ParameterSet } from '../engines/engine.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { writeSafetensors } from '../weights/safetensors-writer.ts';

/** Where a training stands, beside the engine's own state. */
const progressSchema = z.strictObject({
  epoch: z.int().min(0),
  position: z.int().min(0),
  stepCount: z.int().min(0),
  trainedTokenCount: z.number().min(0),
  /** Of the best weights so far, on the development rows. */
  developmentLoss: z.number().optional(),
});
export type TrainingProgress = z.infer<typeof progressSchema>;

/** Raised when a training would go on to other bytes than it would have come to before. */
const formatVersion = 2;

const manifestSchema = z.strictObject({
  format: z.literal('retort-checkpoint'),
  formatVersion: z.literal(formatVersion),
  /** Hash of all that decides the training: a checkpoint of another one is not continued from. */
  key: z.string(),
  progress: progressSchema,
  engineStepCount: z.int().min(0),
  sha256: z.string(),
});

export interface Checkpoint {
  readonly progress: TrainingProgress;
  readonly state: EngineState;
}

const weightsName = 'state.safetensors';
const manifestName = 'checkpoint.json';
const parameterSlot = 'parameters';

/**
 * Saves a checkpoint as `FOLDER/step-N`, whole or not at all, and then removes the older ones and whatever was left half-written.
 * Everything is float32, so that what is read back is what was held: a continued training gives the same bytes as one that never stopped.
 */
export const saveCheckpoint = async (folder: string, key: string, { progress, state }: Checkpoint): Promise<void> => {
  const name = `step-${progress.stepCount}`;
  const draft = join(folder, `${name}.draft`);
  await rm(draft, { recursive: true, force: true });
  const slots = Object.entries({ [parameterSlot]: state.parameters, ...state.optimiser });
  const tensors = slots.flatMap(([slot, set]) =>
    Object.entries(set).map(([tensor, { shape, data }]) => ({
      name: `${slot}/${tensor}`,
      shape,
      format: 'F32' as const,
      read: () => data,
    })),
  );
  await writeSafetensors(join(draft, weightsName), tensors, {});
  await writeJsonAtomic(join(draft, manifestName), {
    format: 'retort-checkpoint',
    formatVersion,
    key,
    progress,
    engineStepCount: state.stepCount,
    sha256: await sha256OfFile(join(draft, weightsName)),
  } satisfies z.infer<typeof manifestSchema>);
  await rm(join(folder, name), { recursive: true, force: true });
  await rename(draft, join(folder, name));
  await syncFolder(folder);
  for (const other of await readdir(folder)) {
    if (other !== name && /^step-\d+(?:\.draft)?$/.test(other)) await rm(join(folder, other), { recursive: true, force: true });
  }
};

/** The newest whole checkpoint of the training that `key` stands for; undefined when there is none. */
export const readCheckpoint = async (folder: string, key: string): Promise<Checkpoint | undefined> => {
  const [newest] = await checkpointNames(folder);
  if (newest === undefined) return undefined;
  const path = join(folder, newest);
  const manifest = await readManifest(path);
  if (manifest.key !== key) {
    throw new UserError(
      `${path} is a checkpoint of other settings, data or weights. Give the output another folder, or delete this one to train anew.`,
    );
  }
  const weights = join(path, weightsName);
  if ((await sha256IfThere(weights)) !== manifest.sha256) {
    throw new UserError(`${weights} is not what was written there (its SHA-256 differs). Delete ${path} to train from the beginning.`);
  }
  const { progress, engineStepCount } = manifest;
  const { [parameterSlot]: parameters = {}, ...optimiser } = await readSlots(weights);
  return { progress, state: { parameters, optimiser, stepCount: engineStepCount } };
};

/** Written whole or not at all, so whatever cannot be read here was edited, damaged, or written by another version. */
const readManifest = async (path: string): Promise<z.infer<typeof manifestSchema>> => {
  const refuse = (cause: unknown): never => {
    throw new UserError(`${path} is no whole checkpoint, or none that this version reads. Delete it to train from the beginning.`, {
      cause,
    });
  };
  const value: unknown = await readFile(join(path, manifestName), 'utf8')
    .then((text): unknown => JSON.parse(text))
    .catch(refuse);
  const parsed = manifestSchema.safeParse(value);
  return parsed.success ? parsed.data : refuse(parsed.error);
};

const sha256IfThere = (path: string): Promise<string | undefined> =>
  sha256OfFile(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });

const readSlots = async (path: string): Promise<Record<string, ParameterSet>> => {
  const source = await openSafetensors(path);
  try {
    const slots: Record<string, Record<string, ParameterSet[string]>> = {};
    for (const [name, { shape }] of source.names) {
      const border = name.indexOf('/');
      const slot = slots[name.slice(0, border)] ?? {};
      slots[name.slice(0, border)] = slot;
      slot[name.slice(border + 1)] = { shape, data: await source.read(name) };
    }
    return slots;
  } finally {
    await source.close();
  }
};

/** Whole checkpoints, the newest first. A draft was left by a process that was stopped while it wrote. */
const checkpointNames = async (folder: string): Promise<string[]> => {
  const names = await readdir(folder).catch((): string[] => []);
  return names.filter((name) => /^step-\d+$/.test(name)).sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
};
