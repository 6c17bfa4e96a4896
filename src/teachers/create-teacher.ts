import { UserError } from '../base/errors.ts';
import type { TeacherProfile } from './batches.ts';
import { fakeTeacher } from './fake.ts';
import type { Environment } from './provider-keys.ts';
import { recordedTeacher } from './recorded.ts';
import type { Teacher } from './teacher.ts';
import type { TeacherConfig } from './teacher-config.ts';

/** What a teacher is made with beside its config. */
export interface TeacherSurroundings {
  /** Where keys are looked up. */
  readonly environment: Environment;
  /** Refuses teachers that are not on this machine. */
  readonly offline: boolean;
  /** Opens a local model, usually as `engineTeacher`: which engine runs it is not this folder's business. */
  readonly openLocal: (config: Extract<TeacherConfig, { kind: 'local' }>) => Promise<Teacher>;
}

/** What is known of a teacher without asking it. Throws for kinds of which no batch files are written. */
export const teacherProfile = async (config: TeacherConfig): Promise<TeacherProfile> => {
  switch (config.kind) {
    case 'openai-compatible':
      return (await import('./openai-compatible.ts')).openAiCompatibleProfile(config);
    case 'anthropic':
      return (await import('./anthropic.ts')).anthropicProfile(config);
    case 'local':
    case 'recorded':
    case 'fake':
      throw new UserError(`Batches are for teachers of kind openai-compatible or anthropic; this one is of kind ${config.kind}.`);
  }
};

/** The teacher that a config means. Whoever makes it releases it. */
export const createTeacher = async (config: TeacherConfig, surroundings: TeacherSurroundings): Promise<Teacher> => {
  const { environment, offline, openLocal } = surroundings;
  switch (config.kind) {
    case 'local':
      return openLocal(config);
    case 'openai-compatible': {
      const { kind: _, timeoutSeconds, ...options } = config;
      const { openAiCompatibleTeacher } = await import('./openai-compatible.ts');
      return openAiCompatibleTeacher({ ...options, timeoutMs: timeoutSeconds && timeoutSeconds * 1000, environment, offline });
    }
    case 'anthropic': {
      const { kind: _, timeoutSeconds, ...options } = config;
      const { anthropicTeacher } = await import('./anthropic.ts');
      return anthropicTeacher({ ...options, timeoutMs: timeoutSeconds && timeoutSeconds * 1000, environment, offline });
    }
    case 'recorded':
      return recordedTeacher(config.file);
    case 'fake':
      return fakeTeacher();
  }
};
