import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';
import { hasCode } from '../base/folders.ts';
import type { ConfigSource } from '../config/config-text.ts';
import { type ConfigSurroundings, type ParsedConfig, parseRunConfig, parseTrainConfig } from '../config/parse-config.ts';
import type { StepProfile } from '../engines/step-profile.ts';
import { planStudy, type StudyPlan } from '../evaluation/plan.ts';
import type { RunSummary } from '../evaluation/summary.ts';
import type { ReadBatch, WrittenBatch } from '../responses/batch-file.ts';
import type { Response } from '../responses/response.ts';
import { currentVersions } from '../run-folder/versions.ts';
import type { Environment } from '../teachers/provider-keys.ts';
import { resolveModel } from '../weights/resolve-model.ts';
import { readRunBatch, writeRunBatch } from './batch-files.ts';
import { estimateRun, type PromptPreview, previewPrompts, type RunEstimate, readFailures } from './plan-collection.ts';
import { questionsOf } from './questions.ts';
import { collectForRun, type RunOptions, runResponsePriming } from './response-priming.ts';
import { methodsOf } from './run-plan.ts';
import type { StageProgress, Surroundings } from './surroundings.ts';
import {
  dryRunTraining,
  type PlannedTraining,
  profileTraining as profileStudent,
  type TrainReport,
  train as trainStudent,
} from './train.ts';

/** What a stage is told beside its config file. Everything has a default. */
export interface StageOptions {
  /** Changes of the config, checked like the rest: `training.epochs=2`, `seeds=[0, 1]`. */
  readonly set?: readonly string[];
  /** The folder to work in, instead of the config's. */
  readonly output?: string;
  /** Asks nothing of the network. */
  readonly offline?: boolean;
  /** When it is raised the work ends at its next safe point; the same call goes on from there. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (name: string, progress: StageProgress) => void;
  /** A line that a reader wants to know. */
  readonly say?: (line: string) => void;
  /** Where `${NAME}` in a config and teachers' keys are looked up; this process's environment when absent. */
  readonly environment?: Environment;
  /** What a config file's own path and `output` are relative to; this process's working folder when absent. */
  readonly workingFolder?: string;
}

export interface RunResult {
  /** The run's folder. */
  readonly folder: string;
  readonly summary: RunSummary;
}

/**
 * What `retort run` does: primes a teacher, collects its answers, fine-tunes a student for each source of answers and seed, measures and
 * compares them. Started again, it goes on where it was.
 *
 * @example
 * const { summary } = await run('quickstart/quickstart.yaml', { set: ['seeds=[3]'], output: 'runs/seed-3' });
 */
export const run = async (configFile: string, options: StageOptions = {}): Promise<RunResult> => {
  const given = runOptions(configFile, options);
  return { folder: given.folder, summary: await runResponsePriming(given, await surroundingsOf(options)) };
};

/**
 * What `retort run --plan` does: how small a difference this run could find. The test questions are counted, not looked at.
 *
 * @example
 * const { rows } = await planRun('quickstart/quickstart.yaml');
 */
export const planRun = async (configFile: string, options: StageOptions = {}): Promise<StudyPlan> => {
  const { config } = runOptions(configFile, options);
  const { task, seeds, comparison } = config;
  const questionCount = task.test.limit ?? (await (await questionsOf(task, await surroundingsOf(options))).openTest()).length;
  const comparedCount = methodsOf(config).flatMap(({ arms }) => arms.filter(({ name }) => comparison.compared.includes(name))).length;
  return planStudy({ questionCount, seedCount: seeds.length, comparedCount });
};

/** What `retort collect` does: the first step of a run by itself, in the run's folder. */
export const collect = async (configFile: string, options: StageOptions = {}): Promise<RunResult> => {
  const given = runOptions(configFile, options);
  return { folder: given.folder, summary: await collectForRun(given, await surroundingsOf(options)) };
};

/** What `retort collect --dry-run` does: the first prompts as the teacher will see them. Nobody is asked. */
export const previewCollection = async (configFile: string, count: number, options: StageOptions = {}): Promise<PromptPreview[]> =>
  previewPrompts(runOptions(configFile, options).config, count, await surroundingsOf(options));

/** What `retort collect --estimate` does: buys a few answers, which are kept, and reckons what the rest will cost. */
export const estimateCollection = async (configFile: string, sampleCount: number, options: StageOptions = {}): Promise<RunEstimate> =>
  estimateRun(runOptions(configFile, options), await surroundingsOf(options), sampleCount);

/** What `retort collect --write-batch` does: the requests that have no answer yet, as files of a provider's or vLLM's batch interface. */
export const writeCollectionBatch = async (configFile: string, file: string, options: StageOptions = {}): Promise<WrittenBatch> =>
  writeRunBatch(runOptions(configFile, options), await surroundingsOf(options), resolve(workingFolderOf(options), file));

/** What `retort collect --read-batch` does: the answers of such a batch go into the run's folder. */
export const readCollectionBatch = async (configFile: string, file: string, options: StageOptions = {}): Promise<ReadBatch> =>
  readRunBatch(runOptions(configFile, options), await surroundingsOf(options), resolve(workingFolderOf(options), file));

/** What `retort collect --failures` does: the answers so far that are not learnt from. */
export const collectionFailures = async (configFile: string, options: StageOptions = {}): Promise<Response[]> =>
  readFailures(runOptions(configFile, options));

/** What `retort train` does: fine-tunes a model, or trains one from scratch, on data of one's own. */
export const train = async (configFile: string, options: StageOptions = {}): Promise<TrainReport> => {
  const { config } = readConfig(parseTrainConfig, configFile, options);
  return trainStudent(config, await surroundingsOf(options));
};

/** What `retort train --dry-run` does: reads and checks everything, and says what the training would run and how much memory it would take. */
export const planTraining = async (configFile: string, options: StageOptions = {}): Promise<PlannedTraining> => {
  const { config } = readConfig(parseTrainConfig, configFile, options);
  return dryRunTraining(config, await surroundingsOf(options));
};

/** What `retort train --profile` does: measures where the time of a training step goes, and trains nothing. */
export const profileTraining = async (configFile: string, options: StageOptions = {}): Promise<StepProfile> => {
  const { config } = readConfig(parseTrainConfig, configFile, options);
  return profileStudent(config, await surroundingsOf(options));
};

const runOptions = (configFile: string, options: StageOptions): RunOptions => {
  const { config, recorded, text } = readConfig(parseRunConfig, configFile, options);
  const folder = config.output ?? resolve(workingFolderOf(options), 'runs', config.name);
  const configFolder = dirname(resolve(workingFolderOf(options), configFile));
  return { config, configText: text, resolvedConfig: recorded, configFolder, folder };
};

/** The surroundings of a stage in this process. */
export const surroundingsOf = async (options: StageOptions): Promise<Surroundings> => {
  const { offline = false, signal, onProgress, say } = options;
  const environment = environmentOf(options);
  return {
    environment,
    offline,
    resolveModel: (reference) =>
      resolveModel(reference, {
        offline,
        environment,
        onProgress: ({ file, doneBytes, totalBytes }) =>
          onProgress?.(`download ${file}, MB`, { doneCount: Math.floor(doneBytes / 1e6), totalCount: Math.ceil(totalBytes / 1e6) }),
        onWarning: (message) => say?.(message),
        ...(signal !== undefined && { signal }),
      }),
    versions: await currentVersions(),
    ...(signal !== undefined && { signal }),
    ...(onProgress !== undefined && { onProgress }),
    ...(say !== undefined && { say }),
  };
};

/** Reads and parses a config file; messages name it as the caller did. */
export const readConfig = <Config>(
  parse: (source: ConfigSource, surroundings: ConfigSurroundings) => ParsedConfig<Config>,
  file: string,
  options: StageOptions,
): ParsedConfig<Config> => {
  const workingFolder = workingFolderOf(options);
  const path = resolve(workingFolder, file);
  const folder = dirname(path);
  const overrides = [...(options.set ?? [])];
  // a config's paths are meant from where the config lies
  if (options.output !== undefined) {
    overrides.push(`output=${JSON.stringify(relative(folder, resolve(workingFolder, options.output)) || '.')}`);
  }
  return parse(
    { text: readText(path, file), file, overrides },
    { folder, workingFolder, environment: environmentOf(options), isThere: existsSync },
  );
};

const readText = (path: string, file: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new UserError(`There is no config at ${file}. Check the path.`);
    if (hasCode(error, 'EISDIR')) throw new UserError(`${file} is a folder. Give the config's file, such as ${join(file, 'run.yaml')}.`);
    throw new UserError(`${file} cannot be read: ${messageOf(error)}`, { cause: error });
  }
};

const workingFolderOf = ({ workingFolder }: StageOptions): string => workingFolder ?? process.cwd();

// biome-ignore lint/style/noProcessEnv: the default of an argument; who wants another environment gives one
const environmentOf = ({ environment }: StageOptions): Environment => environment ?? process.env;
