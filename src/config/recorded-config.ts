import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import type { ConfigSurroundings } from './parse-config.ts';
import { studentSchema } from './student-config.ts';
import { taskSchema } from './task-config.ts';
import { trainingSchema } from './training-config.ts';

const armSchema = z.looseObject({
  kind: z.enum(['strategy', 'gold', 'shuffled', 'selected', 'recorded']),
  name: z.string(),
  /** The arm whose answers a shuffled or selected arm has. */
  of: z.string().optional(),
  strategy: z
    .object({
      name: z.string(),
      version: z.int(),
      placement: z.enum(['system', 'before', 'after']),
      text: z.string(),
      seesSolution: z.boolean(),
    })
    .optional(),
});

const recordedSchema = (surroundings: ConfigSurroundings) => {
  const context = { ...surroundings, paths: 'resolve' as const };
  return z.looseObject({
    seeds: z.array(z.int()),
    task: taskSchema(context),
    student: studentSchema(context),
    training: trainingSchema,
    arms: z.array(armSchema),
  });
};

export type RecordedConfig = z.output<ReturnType<typeof recordedSchema>>;

/** What a run's config.resolved.json says of its questions, arms and students: defaults filled in, `--set` obeyed, paths as they were written. */
export const parseRecordedConfig = (value: unknown, where: string, surroundings: ConfigSurroundings): RecordedConfig => {
  const parsed = recordedSchema(surroundings).safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UserError(`${where} is not understood:\n${z.prettifyError(parsed.error)}`);
};
