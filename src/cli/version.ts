import { readFileSync } from 'node:fs';
import { z } from 'zod';

const packageSchema = z.looseObject({ version: z.string() });

/** The version of this package; package.json lies two folders up from here, in the clone and in the built package alike. */
export const packageVersion = (): string =>
  packageSchema.parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))).version;
