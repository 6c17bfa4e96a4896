import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { messageOf, nearestName, UserError } from '../base/errors.ts';
import { hasCode, makeFolder, writeFileAtomic, writeJsonAtomic } from '../base/folders.ts';
import { type ConfigDifference, configDifferences, describeDifferences, hashOf } from './compare-configs.ts';
import { type Json, type Machine, type Protocol, parseManifest, type RunManifest, runFormatVersion, type Versions } from './manifest.ts';
import { type RunPaths, runPaths } from './paths.ts';

/**
 * A run on disk. Everything that reports, checks and comparisons need lies in its folder, in a public, versioned format. Whoever works on
 * it holds `lockFolder(run.path)`; readers need not.
 */
export interface RunFolder {
  /** Absolute. */
  readonly path: string;
  readonly name: string;
  readonly paths: RunPaths;
  /** The manifest as it is on disk now. */
  manifest(): Promise<RunManifest>;
  /** The config with every default filled in. */
  resolvedConfig(): Promise<Json>;
  /** Replaces the manifest by `change` of it, whole or not at all; changes of one process happen one after the other. */
  update(change: (manifest: RunManifest) => RunManifest): Promise<void>;
  /** Records something that a reader of the report must know. The same words of the same stage are recorded once. */
  warn(stage: string, message: string): Promise<void>;
  /** Records that answers to test questions are about to be scored. */
  openTest(what: string): Promise<void>;
}

/** There is no run where one was looked for. */
export class MissingRunError extends UserError {
  override name = 'MissingRunError';
  readonly path: string;
  readonly known: readonly string[];
  constructor(path: string, known: readonly string[]) {
    const near = nearestName(basename(path), known);
    const shown = known.slice(0, 12);
    const list = shown.length === 0 ? 'No runs lie beside it.' : `Runs beside it: ${shown.join(', ')}${known.length > 12 ? ', …' : ''}.`;
    super(`No run at ${path}. ${list}${near === undefined ? '' : ` Did you mean ${near}?`} Start one with: retort run CONFIG`);
    this.path = path;
    this.known = known;
  }
}

/** The folder holds a run of another config. */
export class DifferentRunError extends UserError {
  override name = 'DifferentRunError';
}

export interface RunBeginning {
  /** The config as the user wrote it. */
  readonly configText: string;
  /** The same with every default filled in: decides whether this is the same run. Holds no credentials. */
  readonly resolvedConfig: Json;
  /** Paths of the config that decide no result (a budget, a limit): they may change from one start to the next. */
  readonly mayChange?: readonly string[];
  /** Paths that earlier versions did not write down: a run of theirs goes on with what they are now. */
  readonly mayAppear?: readonly string[];
  /** Paths of lists that may become longer at their end. What is added after the test was opened is a warning of the run. */
  readonly mayGrow?: readonly string[];
  /** The folder that the config's paths start from. */
  readonly configFolder?: string;
  readonly protocol: Protocol;
  /** Names of the stages (`stageNames`) that the config asks for, so that a report of an unfinished run can say what is missing. */
  readonly plannedStages?: readonly string[];
  readonly versions: Versions;
  readonly machine: Machine;
  readonly now?: () => Date;
}

/** Opens the run in `folder`. Throws a `MissingRunError` that lists the runs nearby. */
export const openRun = async (folder: string, now = () => new Date()): Promise<RunFolder> => {
  const path = resolve(folder);
  const run = runFolderAt(path, now);
  if ((await readIfThere(run.paths.manifest)) === undefined) throw new MissingRunError(folder, await runsIn(dirname(path)));
  await run.manifest();
  return run;
};

/**
 * Begins a run in `folder`, or continues the one there when it has the same resolved config. A run of another config is never mixed with:
 * a `DifferentRunError` says what differs. What is done stays done; see `runStage`.
 */
export const createRun = async (folder: string, beginning: RunBeginning): Promise<RunFolder> => {
  const now = beginning.now ?? (() => new Date());
  const run = runFolderAt(resolve(folder), now);
  const session = { startedAt: now().toISOString(), versions: beginning.versions, machine: beginning.machine };
  const place = beginning.configFolder === undefined ? {} : { configFolder: relative(run.path, beginning.configFolder) };
  if ((await readIfThere(run.paths.manifest)) !== undefined) {
    await checkSameConfig(run, beginning);
    await warnOfOtherCircumstances(run, session.versions, session.machine);
    await run.update((manifest) => ({ ...manifest, ...place, sessions: [...manifest.sessions, session] }));
    return run;
  }
  await checkFree(run.path);
  await makeFolder(run.path);
  await writeFileAtomic(run.paths.config, beginning.configText);
  await writeJsonAtomic(run.paths.resolvedConfig, beginning.resolvedConfig);
  const manifest: RunManifest = {
    format: 'retort-run',
    formatVersion: runFormatVersion,
    name: run.name,
    createdAt: session.startedAt,
    ...place,
    configHash: hashOf(beginning.resolvedConfig),
    protocol: beginning.protocol,
    sessions: [session],
    plannedStages: [...(beginning.plannedStages ?? [])],
    stages: {},
    files: {},
    warnings: [],
    testOpenings: [],
  };
  await writeJsonAtomic(run.paths.manifest, manifest);
  return run;
};

/** The names of the runs that lie directly in a folder, sorted. */
export const runsIn = async (folder: string): Promise<string[]> => {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries
      .filter((entry) => entry.isDirectory())
      .map(async (entry) => ((await readIfThere(join(folder, entry.name, 'manifest.json')))?.includes('"retort-run"') ? [entry.name] : [])),
  );
  return found.flat().sort();
};

const runFolderAt = (path: string, now: () => Date): RunFolder => {
  const paths = runPaths(path);
  // Changes queue here, so that two stages that end at once do not lose one another's record.
  let last: Promise<unknown> = Promise.resolve();
  const manifest = async () => {
    const text = await readIfThere(paths.manifest);
    if (text === undefined) throw new MissingRunError(path, await runsIn(dirname(path)));
    return parseManifest(text, paths.manifest);
  };
  const update = (change: (manifest: RunManifest) => RunManifest): Promise<void> => {
    const next = last.then(async () => {
      const before = await manifest();
      const after = change(before);
      if (after !== before) await writeJsonAtomic(paths.manifest, after);
    });
    last = next.catch(() => undefined);
    return next;
  };
  return {
    path,
    name: basename(path),
    paths,
    manifest,
    resolvedConfig: async () => {
      const value = parseJson((await readIfThere(paths.resolvedConfig)) ?? '');
      if (value === undefined) throw new UserError(`${paths.resolvedConfig} is missing or damaged: the run cannot say what it was.`);
      return value;
    },
    update,
    warn: (stage, message) =>
      update((before) =>
        before.warnings.some((warning) => warning.stage === stage && warning.message === message)
          ? before
          : { ...before, warnings: [...before.warnings, { at: now().toISOString(), stage, message }] },
      ),
    openTest: (what) => update((before) => ({ ...before, testOpenings: [...before.testOpenings, { at: now().toISOString(), what }] })),
  };
};

/** The run goes on with a config that differs in nothing but what may change; the newer one is written down in the place of the older. */
const checkSameConfig = async (
  run: RunFolder,
  { configText, resolvedConfig: now, mayChange = [], mayAppear = [], mayGrow = [], plannedStages }: RunBeginning,
): Promise<void> => {
  const manifest = await run.manifest();
  if (manifest.configHash === hashOf(now)) return;
  const text = await readIfThere(run.paths.resolvedConfig);
  const before = text === undefined ? undefined : parseJson(text);
  const all = before === undefined ? [] : configDifferences(before, now);
  const isBelow = (path: string, paths: readonly string[]): boolean => paths.some((free) => path === free || path.startsWith(`${free}.`));
  const isAdded = ({ path, before: earlier }: ConfigDifference): boolean => earlier === undefined && mayGrow.includes(listOf(path));
  const differences = all.filter(
    (difference) =>
      !isBelow(difference.path, mayChange) &&
      !(difference.before === undefined && isBelow(difference.path, mayAppear)) &&
      !isAdded(difference),
  );
  if (all.length > 0 && differences.length === 0) {
    await warnOfAdditions(run, all.filter(isAdded));
    await writeFileAtomic(run.paths.config, configText);
    await writeJsonAtomic(run.paths.resolvedConfig, now);
    const planned = plannedStages === undefined ? {} : { plannedStages: [...plannedStages] };
    await run.update((earlier) => ({ ...earlier, configHash: hashOf(now), ...planned }));
    return;
  }
  throw new DifferentRunError(
    `${run.path} holds a run of another config:\n${describeDifferences(differences) || `  ${run.paths.resolvedConfig} is missing or was edited`}\nGive the new run another name or folder, or restore the config.`,
  );
};

/** `seeds` of `seeds[2]`. */
const listOf = (path: string): string => path.replace(/\[\d+\]$/, '');

/** A family that grows until a difference shows has a larger chance of showing one that is not there than its interval says. */
const warnOfAdditions = async (run: RunFolder, added: readonly ConfigDifference[]): Promise<void> => {
  const { testOpenings } = await run.manifest();
  if (added.length === 0 || testOpenings.length === 0) return;
  const list = added.map(({ path, now }) => `${listOf(path)} ${JSON.stringify(now)}`).join(', ');
  await run.warn(
    'run',
    `Added after the test questions had been opened: ${list}. If what was seen then decided it, intervals and p-values say too much.`,
  );
};

const parseJson = (text: string): Json | undefined => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Results may depend on versions and processor in their last digits: a run that was continued elsewhere says so. */
const warnOfOtherCircumstances = async (run: RunFolder, versions: Versions, machine: Machine): Promise<void> => {
  const first = (await run.manifest()).sessions[0];
  if (first === undefined) return;
  const differences = configDifferences({ versions: first.versions, machine: first.machine }, { versions, machine });
  if (differences.length === 0) return;
  const list = differences.map(({ path, before, now }) => `${path} ${JSON.stringify(before)} → ${JSON.stringify(now)}`).join(', ');
  await run.warn(
    'run',
    `Continued under other circumstances than it was begun: ${list}. Rounding, and with it single answers, may differ between the parts.`,
  );
};

const checkFree = async (path: string): Promise<void> => {
  const entries = await readdir(path).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return [];
    throw new UserError(`Cannot use ${path} as a run's folder: ${messageOf(error)}`);
  });
  // A process that was killed while it began a run leaves at most these behind, before the manifest.
  const foreign = entries.filter(
    (name) => !['config.yaml', 'config.resolved.json', 'log', '.lock'].includes(name) && !name.endsWith('.draft'),
  );
  if (foreign.length === 0) return;
  throw new UserError(
    `${path} is not empty and holds no run (no manifest.json, but ${foreign.slice(0, 5).join(', ')}). Choose another name or folder.`,
  );
};

const readIfThere = async (path: string): Promise<string | undefined> => {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) return undefined;
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`);
  }
};
