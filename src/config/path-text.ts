import { resolve } from 'node:path';
import { z } from 'zod';
import { parseHubDataReference, parseHubReference } from '../weights/hub-reference.ts';
import type { ConfigContext } from './config-context.ts';

/**
 * A path in a config: relative to the config's file, with `${NAME}` standing for an environment variable. A variable that is not set is a
 * problem of that key.
 */
export const pathText = (context: ConfigContext, description: string) =>
  z
    .string()
    .min(1)
    .describe(`${description} Relative to this file; \${NAME} stands for an environment variable.`)
    .transform((text, issues) => resolvePath(context, text, issues));

/** Data: a file, a folder, or `hub:owner/name` of a data set on the hub. */
export const dataText = (context: ConfigContext, description: string) =>
  z
    .string()
    .min(1)
    .describe(
      `${description} A file (.jsonl, .json, .csv, .tsv, .parquet) or a folder of them, relative to this file (\${NAME} stands for an environment variable), or hub:owner/name, hub:owner/name/subset, hub:owner/name/file@revision of a data set on the Hugging Face hub.`,
    )
    .transform((text, issues) => {
      if (!text.startsWith('hub:')) return resolvePath(context, text, issues);
      if (parseHubDataReference(text) === undefined)
        issues.addIssue({ code: 'custom', message: 'expected hub:owner/name, with /subset or /file and @revision where wanted' });
      return text;
    });

/** A model: a folder, a .gguf file, or `owner/name` on the hub, `hub:owner/name@revision` in full. */
export const modelText = (context: ConfigContext, description: string) =>
  z
    .string()
    .min(1)
    .describe(
      `${description} A folder or .gguf file, relative to this file (\${NAME} stands for an environment variable), or owner/name of a repository on the Hugging Face hub, which is downloaded once; owner/name@revision for one revision.`,
    )
    .transform((text, issues) => resolveModel(context, text, issues));

/** The absolute path that a text means; `at` is the key it stands under, below what is being parsed. */
export const resolvePath = (context: ConfigContext, text: string, issues: z.core.$RefinementCtx, at: readonly string[] = []): string => {
  if (context.paths === 'keep') return text;
  const filled = fillVariables(text, context.environment, issues, at);
  return filled === undefined ? z.NEVER : resolve(startOf(context, text), filled);
};

/** The absolute path, or `hub:owner/name`, that a text means. What lies on the disk counts before a name on the hub. */
export const resolveModel = (context: ConfigContext, text: string, issues: z.core.$RefinementCtx, at: readonly string[] = []): string => {
  if (context.paths === 'keep' || text.startsWith('hub:')) return text;
  const filled = fillVariables(text, context.environment, issues, at);
  if (filled === undefined) return z.NEVER;
  const path = resolve(startOf(context, text), filled);
  return parseHubReference(filled) !== undefined && !context.isThere(path) ? `hub:${filled}` : path;
};

/** Where a relative path starts: one that comes from the environment was written with the working folder in mind, not the config's. */
const startOf = ({ folder, workingFolder }: ConfigContext, text: string): string =>
  text.startsWith('${') ? (workingFolder ?? folder) : folder;

/** Puts the environment's values in for `${NAME}`. An empty value counts as not set: it would mean the root. */
const fillVariables = (
  text: string,
  environment: ConfigContext['environment'],
  issues: z.core.$RefinementCtx,
  at: readonly string[],
): string | undefined => {
  const missing: string[] = [];
  const filled = text.replace(/\$\{(\w+)\}/g, (_, name: string) => {
    const value = environment[name];
    if (value === undefined || value === '') missing.push(name);
    return value ?? '';
  });
  if (missing.length === 0) return filled;
  issues.addIssue({
    code: 'custom',
    path: [...at],
    message: `the environment variable ${missing.join(' and ')} is not set. Set it, or write the path itself`,
  });
  return undefined;
};
