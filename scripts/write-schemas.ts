// Writes the JSON Schemas of the configs, which editors read, and of a report's JSON into schemas/. A test says when they are out of date.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configJsonSchemas } from '../src/config/json-schema.ts';
import { reportJsonSchema } from '../src/evaluation/summary-schema.ts';

const folder = join(import.meta.dirname, '..', 'schemas');
mkdirSync(folder, { recursive: true });
for (const [name, schema] of Object.entries({ ...configJsonSchemas(), 'report.schema.json': reportJsonSchema() })) {
  writeFileSync(join(folder, name), `${JSON.stringify(schema, null, 2)}\n`);
}
