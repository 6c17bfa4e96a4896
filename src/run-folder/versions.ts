import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { Versions } from './manifest.ts';

const packageSchema = z.looseObject({ version: z.string() });

/** The version of this package; package.json lies two folders up from here, in the clone and in the built package alike. */
export const packageVersion = (): string =>
  packageSchema.parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))).version;

/** What results may depend on, for the record. */
export const currentVersions = async (): Promise<Versions> => {
  // Loaded here: what only reads runs needs no native code.
  const { onnxRuntimeInformation } = await import('../runtime/onnx-information.ts');
  return { 'retort-kd': packageVersion(), node: process.versions.node, onnxruntime: onnxRuntimeInformation().version };
};
