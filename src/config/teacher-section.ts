import { teacherSchema } from '../teachers/teacher-config.ts';
import type { ConfigContext } from './config-context.ts';
import { resolveModel, resolvePath } from './path-text.ts';

/** Who answers the training questions, with its paths resolved. */
export const teacherSection = (context: ConfigContext) =>
  teacherSchema.transform((teacher, issues) => {
    switch (teacher.kind) {
      case 'local':
        return { ...teacher, model: resolveModel(context, teacher.model, issues, ['model']) };
      case 'recorded':
        return { ...teacher, file: resolvePath(context, teacher.file, issues, ['file']) };
      case 'openai-compatible':
      case 'anthropic':
      case 'fake':
        return teacher;
    }
  });
