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

/** The teacher that a config means. Whoever makes it releases it. */
export const createTeacher = async (config: TeacherConfig, surroundings: TeacherSurroundings): Promise<Teacher> => {
  const { environment, offline, openLocal } = surroundings;
  switch (config.kind) {
    case 'local':
      return openLocal(config);
    case 'openai-compatible': {
      const { kind: _, timeoutSeconds, ...options } = config;
      // Loaded when needed: the AI SDK takes a third of a second.
      const { openAiCompatibleTeacher } = await import('./openai-compatible.ts');
      return openAiCompatibleTeacher({ ...options, timeoutMs: timeoutSeconds && timeoutSeconds * 1000, environment, offline });
    }
    case 'recorded':
      return recordedTeacher(config.file);
    case 'fake':
      return fakeTeacher();
  }
};
