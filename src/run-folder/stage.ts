import { readdir, stat } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { sha256OfFile } from '../base/folders.ts';
import { type ArmId, armName, type Subject, subjectName } from './arm.ts';
import { hashOf } from './compare-configs.ts';
import type { Json, RunManifest, StageRecord } from './manifest.ts';
import type { RunFolder } from './run-folder.ts';

/** The names of a run's stages. */
export const stageNames = {
  curate: (what: 'questions' | 'answers'): string => `curate--${what}`,
  collect: (source: string): string => `collect--${source}`,
  judge: (source: string): string => `judge--${source}`,
  /** Of a method or an arm, where each has its own. */
  choose: (...of: readonly string[]): string => ['choose', ...of].join('--'),
  train: (arm: ArmId): string => `train--${armName(arm)}`,
  evaluate: (subject: Subject): string => `evaluate--${subjectName(subject)}`,
  likelihood: (subject: Subject): string => `likelihood--${subjectName(subject)}`,
  report: 'report',
} as const;

/** What `report` reads of a collect stage's facts. Rows are answers to training questions. */
export interface CollectFacts {
  readonly keptCount: number;
  readonly failedCount: number;
  readonly rejectedCount: number;
  readonly promptTokenCount?: number;
  readonly completionTokenCount?: number;
  /** Where prices are known. */
  readonly costUsd?: number;
}

/** What `report` reads of a train stage's facts. */
export interface TrainFacts {
  readonly rowCount: number;
  /** Rows left out: too long, or without a token to train on. */
  readonly droppedCount: number;
  /** Tokens that the loss was taken over, each time that they were. */
  readonly trainedTokenCount: number;
  readonly stepCount: number;
  /** The step whose weights are the student: the last, unless the best of those weighed on the way was kept. */
  readonly keptStep?: number;
}

/** A candidate of a search, and what it was judged by. */
export interface SearchCandidate {
  readonly learningRate: number;
  readonly epochs: number;
  readonly alpha?: number;
  readonly temperature?: number;
  /** Nats per token of the judging questions' own solutions; null where the candidate is lost. */
  readonly developmentLoss: number | null;
  /** Why there is no loss. */
  readonly lost?: string;
  readonly stepCount?: number;
  readonly trainedTokenCount?: number;
}

/** What `report` reads of a choose stage's facts: the candidates, and the settings that were chosen. */
export interface ChooseFacts {
  readonly candidates: readonly SearchCandidate[];
  readonly learningRate: number;
  readonly epochs: number;
  readonly alpha?: number;
  readonly temperature?: number;
  /** Whose answers the candidates were trained on. */
  readonly arm: string;
  readonly rowCount: number;
  readonly judgingRowCount: number;
  readonly judgedOn: 'development' | 'test';
}

export interface StageResult {
  /** Files and folders that the stage finished; each file's SHA-256 goes into the manifest. Absolute, or relative to the run. */
  readonly files: readonly string[];
  readonly facts: Readonly<Record<string, Json>>;
}

export interface StageOptions {
  readonly name: string;
  /** All that decides the result; a stage that was done under another key is done anew. */
  readonly key: Json;
  readonly now?: () => Date;
}

export interface FinishedStage {
  readonly facts: Readonly<Record<string, Json>>;
  readonly wasDone: boolean;
}

/**
 * Does a stage unless it is done: then its recorded facts come back at once. The body resumes its own work from what it left in its
 * files; it gets the record of the last attempt, whose key is the same unless `isSameKey` is false. A failure is recorded and thrown on.
 */
export const runStage = async (
  run: RunFolder,
  { name, key, now = () => new Date() }: StageOptions,
  body: (last: { readonly record: StageRecord | undefined; readonly isSameKey: boolean }) => Promise<StageResult>,
): Promise<FinishedStage> => {
  const hash = hashOf(key);
  const record = (await run.manifest()).stages[name];
  if (record?.status === 'done' && record.key === hash && (await areThere(run, record.files)))
    return { facts: record.facts, wasDone: true };

  const startedAt = now();
  const begun: StageRecord = { status: 'started', key: hash, startedAt: startedAt.toISOString(), files: [], facts: {} };
  await run.update((manifest) => withStage(manifest, name, begun));
  try {
    const result = await body({ record, isSameKey: record === undefined || record.key === hash });
    const hashes = await hashFiles(run.path, result.files);
    const finishedAt = now();
    const done: StageRecord = {
      ...begun,
      status: 'done',
      finishedAt: finishedAt.toISOString(),
      durationMs: Math.max(0, finishedAt.getTime() - startedAt.getTime()),
      files: Object.keys(hashes),
      facts: { ...result.facts },
    };
    await run.update((manifest) => ({ ...withStage(manifest, name, done), files: { ...manifest.files, ...hashes } }));
    return { facts: result.facts, wasDone: false };
  } catch (error) {
    // Somebody stopped it: it is under way still and goes on with the next start.
    if (error instanceof Error && interruptions.has(error.name)) throw error;
    const failed: StageRecord = { ...begun, status: 'failed', finishedAt: now().toISOString(), error: messageOf(error) };
    // Where even this cannot be written (full disk), the first error is the one to know of.
    await run.update((manifest) => withStage(manifest, name, failed)).catch(() => undefined);
    throw error;
  }
};

/** Names of what a raised signal throws: the command line's at Ctrl-C, and the platform's own. */
const interruptions: ReadonlySet<string> = new Set(['InterruptError', 'AbortError']);

const withStage = (manifest: RunManifest, name: string, record: StageRecord): RunManifest => ({
  ...manifest,
  stages: { ...manifest.stages, [name]: record },
});

/** Hashes of the files at `paths`, folders replaced by all that lies in them, by relative path with forward slashes, sorted. */
const hashFiles = async (root: string, paths: readonly string[]): Promise<RunManifest['files']> => {
  const found = await Promise.all(
    paths.map(async (given) => {
      const path = resolve(root, given);
      if (!(await stat(path)).isDirectory()) return [path];
      const entries = await readdir(path, { recursive: true, withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    }),
  );
  const hashes: RunManifest['files'] = {};
  for (const path of [...new Set(found.flat())].sort()) {
    hashes[relative(root, path).split(sep).join('/')] = { sha256: await sha256OfFile(path), sizeBytes: (await stat(path)).size };
  }
  return hashes;
};

/** Cheap: by name and recorded existence only. `checkFiles` compares contents. */
const areThere = async (run: RunFolder, files: readonly string[]): Promise<boolean> => {
  const found = await Promise.all(
    files.map((file) =>
      stat(join(run.path, file)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.every(Boolean);
};

export interface FileProblem {
  readonly file: string;
  readonly problem: 'missing' | 'changed';
}

/** Compares every finished file below `folder` with the SHA-256 that the manifest holds: edited answers and lost files are found here. */
export const checkFiles = async (run: RunFolder, folder = ''): Promise<FileProblem[]> => {
  const { files } = await run.manifest();
  const problems: FileProblem[] = [];
  for (const [file, expected] of Object.entries(files)) {
    if (!file.startsWith(folder)) continue;
    const path = join(run.path, file);
    const isThere = await stat(path).then(
      (found) => found.isFile(),
      () => false,
    );
    if (!isThere) problems.push({ file, problem: 'missing' });
    else if ((await sha256OfFile(path)) !== expected.sha256) problems.push({ file, problem: 'changed' });
  }
  return problems;
};
