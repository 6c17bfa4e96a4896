import { z } from 'zod';
import type { ConfigContext } from './config-context.ts';
import { type ConfigSource, parseConfigText } from './config-text.ts';
import { ConfigError, pathName, problemMessage, problemsOf } from './problem.ts';
import { type RunConfig, runSchema } from './run-config.ts';
import { type TrainConfig, trainSchema } from './train-config.ts';

/** A config that can be used. */
export interface ParsedConfig<Config> {
  /** Every default filled in, every path absolute. */
  readonly config: Config;
  /** The same with paths as they were written: what a run folder records, so that a run may move to another machine. */
  readonly recorded: z.core.util.JSONType;
  readonly text: string;
}

export type ConfigSurroundings = Omit<ConfigContext, 'paths'>;

/**
 * The config of `retort run`. Throws a ConfigError that lists every problem with its line, what was expected, and the nearest known name.
 *
 * @example
 * const { config } = parseRunConfig({ text: await readFile(file, 'utf8'), file }, { folder: dirname(file), environment: process.env, isThere: existsSync });
 */
export const parseRunConfig = (source: ConfigSource, surroundings: ConfigSurroundings): ParsedConfig<RunConfig> =>
  parseConfig(runSchema, source, surroundings);

/** The config of `retort train`. Throws as `parseRunConfig` does. */
export const parseTrainConfig = (source: ConfigSource, surroundings: ConfigSurroundings): ParsedConfig<TrainConfig> =>
  parseConfig(trainSchema, source, surroundings);

const parseConfig = <Schema extends z.ZodType>(
  schemaOf: (context: ConfigContext) => Schema,
  source: ConfigSource,
  surroundings: ConfigSurroundings,
): ParsedConfig<z.output<Schema>> => {
  const { value, whereIs } = parseConfigText(source);
  const parsed = (paths: ConfigContext['paths']): z.output<Schema> => {
    const result = schemaOf({ ...surroundings, paths }).safeParse(value, { error: problemMessage });
    if (result.success) return result.data;
    throw new ConfigError(
      source.file,
      problemsOf(result.error.issues).map((problem) => ({
        path: pathName(problem.path),
        where: whereIs(problem),
        message: problem.message,
      })),
    );
  };
  return { config: parsed('resolve'), recorded: z.json().parse(JSON.parse(JSON.stringify(parsed('keep')))), text: source.text };
};
