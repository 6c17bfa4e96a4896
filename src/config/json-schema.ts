import { z } from 'zod';
import type { ConfigContext } from './config-context.ts';
import { runSchema } from './run-config.ts';
import { trainSchema } from './train-config.ts';

// nothing is resolved when a schema is only described
const context: ConfigContext = { folder: '', environment: {}, isThere: () => false, paths: 'keep' };

const jsonSchema = (schema: z.ZodType, title: string) => ({ ...z.toJSONSchema(schema, { io: 'input' }), title });

/** JSON Schemas of the configs by file name, for editors: they complete keys, explain them, and mark mistakes. */
export const configJsonSchemas = (): Readonly<Record<string, object>> => ({
  'run.schema.json': jsonSchema(runSchema(context), 'retort run'),
  'train.schema.json': jsonSchema(trainSchema(context), 'retort train'),
});
