import { readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { z } from 'zod';
import { nearestName, UserError } from '../base/errors.ts';
import { lockFolder } from '../base/folder-lock.ts';
import { sha256OfFile, writeJsonAtomic } from '../base/folders.ts';
import { readJsonLines } from '../base/json-lines.ts';
import { writeReport } from '../report/write-report.ts';
import { removeLines } from '../responses/forget.ts';
import { refreshProvenance } from '../responses/provenance.ts';
import { readResponses, responsesFile } from '../responses/response-store.ts';
import {
  type ForgettingJournal,
  finishForgetting,
  forgottenMark,
  type QuestionSplit,
  readForgettingJournal,
  writeForgettingJournal,
} from '../run-folder/forgotten.ts';
import type { RunManifest } from '../run-folder/manifest.ts';
import { openRun, type RunFolder } from '../run-folder/run-folder.ts';
import { stageNames } from '../run-folder/stage.ts';
import type { Task } from '../tasks/task.ts';
import { writeRunProvenance } from './run-provenance.ts';
import { filesHolding } from './search-texts.ts';

export interface ForgetOptions {
  readonly folder: string;
  readonly id: string;
  /** Where the id is one of a training and of a test question. */
  readonly split?: QuestionSplit | undefined;
  /** What becomes of students that saw it: `mark` leaves them, with a note beside them; `remove` removes them and what they answered. */
  readonly students: 'mark' | 'remove';
  /** The rules to write the report anew with. */
  readonly taskOf?: (run: RunFolder) => Promise<Task | undefined>;
  readonly now?: () => Date;
}

export interface ForgetReport {
  readonly id: string;
  readonly split: QuestionSplit;
  /** Lines removed in this call, by file. */
  readonly removed: Readonly<Record<string, number>>;
  /** Students that were trained on it, by their names. */
  readonly students: readonly string[];
  readonly studentsAre: 'marked' | 'removed';
  /** Files that were removed whole, since the question's text stood in them. */
  readonly removedFiles: readonly string[];
  /** Files in which a text of the question still stands. */
  readonly leftovers: readonly string[];
}

/**
 * What `retort forget` does: removes a question and everything made from it from a run: answers, verdicts, findings, evaluations, the report, and names
 * the students that saw it. Stopped at any moment, the same call goes on.
 */
export const forgetInRun = async (options: ForgetOptions): Promise<ForgetReport> => {
  const { now = () => new Date() } = options;
  const run = await openRun(options.folder, now);
  const lock = await lockFolder(run.path);
  try {
    const left = await readForgettingJournal(run.path);
    if (left !== undefined && left.id !== options.id)
      throw new UserError(
        `Forgetting ${JSON.stringify(left.id)} was stopped before its end. Finish it first: retort forget ${options.folder} ${JSON.stringify(left.id)}`,
      );
    const journal = left ?? (await plan(run, options));
    await writeForgettingJournal(run.path, journal);
    const hasReport = (await run.manifest()).stages[stageNames.report] !== undefined;
    const removed = await removeEverywhere(run, journal);
    await treatStudents(run, journal, now());
    const removedFiles = await removeDerived(run, journal);
    await refreshRecords(run, journal);
    if (hasReport) await rewriteReport(run, options);
    const leftovers = await filesHolding(run.path, journal.texts, ['forgetting.json']);
    await finishForgetting(run.path, journal, now());
    const { id, split, saw, students } = journal;
    return { id, split, removed, students: saw, studentsAre: students === 'mark' ? 'marked' : 'removed', removedFiles, leftovers };
  } finally {
    await lock.release();
  }
};

/** The fields by which a line names the question that it is about, or an answer to it. */
const lineSchema = z.looseObject({
  exampleId: z.string().optional(),
  answerFrom: z.string().optional(),
  id: z.string().optional(),
  evaluationId: z.string().optional(),
  duplicateOf: z.string().optional(),
  requestKey: z.string().optional(),
  custom_id: z.string().optional(),
});
type Line = z.infer<typeof lineSchema>;

/** Which fields name a question of a split in a file. Rows of findings among answers are called ARM/ID/SAMPLE. */
const namesIn = (path: string, split: QuestionSplit, line: Line): (string | undefined)[] => {
  if (split === 'test') return path.startsWith('evaluations/') ? [line.id] : path.startsWith('curation/') ? [line.evaluationId] : [];
  if (path.startsWith('evaluations/')) return [];
  const names = [line.exampleId, line.answerFrom, line.id, line.duplicateOf];
  return path.startsWith('curation/answer-') ? names.map((name) => /^[^/]+\/(.*)\/\d+$/s.exec(name ?? '')?.[1] ?? name) : names;
};

const concerns = (path: string, { id, split, keys }: Pick<ForgettingJournal, 'id' | 'split' | 'keys'>) => {
  const known = new Set(keys);
  return (value: unknown): boolean => {
    const line = lineSchema.safeParse(value).data;
    if (line === undefined) return false;
    const isKey = [line.exampleId, line.requestKey, line.custom_id].some((key) => key !== undefined && known.has(key));
    return isKey || namesIn(path, split, line).includes(id);
  };
};

const plan = async (run: RunFolder, { id, split: wanted, students }: ForgetOptions): Promise<ForgettingJournal> => {
  const files = await lineFiles(run);
  const found = new Set<QuestionSplit>();
  const keys = new Set<string>();
  const texts = { train: new Set<string>(), test: new Set<string>() };
  const others: string[] = [];
  for (const path of files) {
    for await (const { value } of readJsonLines(join(run.path, path))) {
      for (const split of ['train', 'test'] as const) {
        if (!concerns(path, { id, split, keys: [] })(value)) continue;
        found.add(split);
        const { requestKey } = lineSchema.parse(value);
        if (split === 'train' && requestKey !== undefined) keys.add(requestKey);
        for (const text of textsOf(value, id)) texts[split].add(text);
      }
      const { exampleId, id: ownId } = lineSchema.safeParse(value).data ?? {};
      if (others.length < 5000 && !path.startsWith('verdicts/')) others.push(...[exampleId, ownId].filter((name) => name !== undefined));
    }
  }
  const [split = undefined] = wanted === undefined ? found : [...found].filter((one) => one === wanted);
  if (split === undefined) {
    const near = nearestName(id, [...new Set(others)]);
    const where = wanted === undefined ? '' : ` among the ${wanted} questions`;
    throw new UserError(
      `Nothing in ${run.path} was made from a question called ${JSON.stringify(id)}${where}.${near === undefined ? '' : ` Did you mean ${near}?`} Its answers are in responses/ and evaluations/, each with its id.`,
    );
  }
  if (wanted === undefined && found.size > 1)
    throw new UserError(
      `${JSON.stringify(id)} is a training question and a test question of ${run.path}. Say which: --split train or --split test.`,
    );
  const shared = { id, split, students, texts: [...texts[split]] };
  if (split === 'test') return { ...shared, saw: [], keys: [] };
  return { ...shared, saw: await studentsThatSaw(run, id, keys), keys: [...keys] };
};

/** By the rows that each was trained on; of a student whose rows are not on record, by the answers of its arm. */
const studentsThatSaw = async (run: RunFolder, id: string, keys: ReadonlySet<string>): Promise<string[]> => {
  const folder = join(run.path, 'students');
  const names = await readdir(folder).catch((): string[] => []);
  const saw: string[] = [];
  for (const name of names.sort()) {
    const source = name.split('--')[0] ?? '';
    const rows = join(folder, name, 'rows.jsonl');
    const isOnRecord = await isThere(rows);
    const file = isOnRecord ? rows : responsesFile(join(run.paths.responses, source));
    if (!(await isThere(file))) continue;
    for await (const { value } of readJsonLines(file)) {
      if (!concerns('responses/', { id, split: 'train', keys: [...keys] })(value)) continue;
      saw.push(name);
      break;
    }
  }
  return saw;
};

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Every JSON-lines file of the run, by its path with forward slashes; the run's own records of steps and batches have no ids of questions. */
const lineFiles = async (run: RunFolder): Promise<string[]> => {
  const entries = await readdir(run.path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.jsonl') && !['metrics.jsonl', 'batches.jsonl'].includes(entry.name))
    .map((entry) => relative(run.path, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
};

/** Removes the lines, each file whole or not at all, and whatever a killed process left half-written. Returns how many went, by file. */
const removeEverywhere = async (run: RunFolder, journal: ForgettingJournal): Promise<Record<string, number>> => {
  const entries = await readdir(run.path, { recursive: true, withFileTypes: true });
  for (const entry of entries)
    if (entry.isFile() && entry.name.endsWith('.draft')) await rm(join(entry.parentPath, entry.name), { force: true });
  const removed: Record<string, number> = {};
  for (const path of await lineFiles(run)) {
    const file = join(run.path, path);
    // A store may be open in another process that knows nothing of runs.
    const lock = basename(file) === 'responses.jsonl' ? await lockFolder(dirname(file)) : undefined;
    try {
      const gone = await removeLines(file, concerns(path, journal));
      if (gone.length > 0) removed[path] = gone.length;
    } finally {
      await lock?.release();
    }
  }
  return removed;
};

const textSchema = z.looseObject({
  id: z.string().optional(),
  question: z.string().optional(),
  text: z.string().optional(),
  trainingText: z.string().optional(),
  evaluationText: z.string().optional(),
  evaluationId: z.string().optional(),
});

/** What to look for in other files: long enough that it stands there for this question alone. */
const textsOf = (value: unknown, id: string): string[] => {
  const line = textSchema.safeParse(value).data ?? {};
  const isEvaluation = line.evaluationId === id;
  return [line.question, line.text, isEvaluation ? line.evaluationText : line.trainingText].filter(
    (text) => text !== undefined && text.length >= 40,
  ) as string[];
};

/** Marked ones are told of beside their weights and in the report; a training that was under way starts anew either way. */
const treatStudents = async (run: RunFolder, { saw, students }: ForgettingJournal, now: Date): Promise<void> => {
  for (const name of saw) {
    const folder = join(run.path, 'students', name);
    await rm(join(folder, 'checkpoints'), { recursive: true, force: true });
    if (students === 'mark') {
      const note = 'This student was trained on a question that was forgotten since. `retort run` trains it anew.';
      if (await isThere(folder)) await writeJsonAtomic(join(folder, forgottenMark), { note, at: now.toISOString() });
      await run.warn(`train--${name}`, note);
      continue;
    }
    await rm(folder, { recursive: true, force: true });
    for (const ending of ['.jsonl', '.likelihood.jsonl']) await rm(join(run.path, 'evaluations', `${name}${ending}`), { force: true });
    await run.warn(`train--${name}`, 'Removed: it was trained on a question that was forgotten since.');
  }
};

/** The report and what `inspect` wrote are made from texts: what holds the question's goes whole, and can be made again. */
const removeDerived = async (run: RunFolder, { texts, students, saw }: ForgettingJournal): Promise<string[]> => {
  const removed: string[] = [];
  for (const folder of [run.paths.report, join(run.path, 'inspection')]) {
    if (!(await isThere(folder))) continue;
    const isReport = folder === run.paths.report;
    const holding = await filesHolding(run.path, texts, [], folder);
    // Every number of the report may have changed.
    const names = isReport ? (await readdir(folder)).map((name) => `${basename(folder)}/${name}`) : holding;
    for (const name of names) await rm(join(run.path, name), { recursive: true, force: true });
    removed.push(...names);
  }
  // What heads of a removed student look at is made from it, too.
  const names = students === 'remove' && saw.length > 0 ? await readdir(join(run.path, 'inspection')).catch((): string[] => []) : [];
  for (const name of names) {
    await rm(join(run.path, 'inspection', name), { recursive: true, force: true });
    removed.push(`inspection/${name}`);
  }
  return removed.sort();
};

/** The manifest, the cards and the hashes follow what is there now. */
const refreshRecords = async (run: RunFolder, { saw, students, split }: ForgettingJournal): Promise<void> => {
  const before = await run.manifest();
  const stages: RunManifest['stages'] = {};
  for (const [name, record] of Object.entries(before.stages)) {
    if (split === 'train' && name.startsWith('curate--')) continue;
    const student = /^(?:train|evaluate|likelihood)--(.*)$/s.exec(name)?.[1];
    if (students === 'remove' && student !== undefined && saw.includes(student)) continue;
    const store = storeOfStage(run, name);
    const own = record.facts['keys'];
    if (store === undefined || !Array.isArray(own)) stages[name] = record;
    else {
      const answers = await readResponses(store, { keys: own.map(String), statuses: ['kept', 'failed'] });
      const left = answers.map(({ requestKey }) => requestKey);
      const keptCount = answers.filter(({ status }) => status === 'kept').length;
      await refreshProvenance(store, left);
      stages[name] = { ...record, facts: { ...record.facts, keys: left, keptCount, failedCount: answers.length - keptCount } };
    }
  }
  const files: RunManifest['files'] = {};
  for (const file of Object.keys(before.files)) {
    const path = join(run.path, file);
    if (await isThere(path)) files[file] = { sha256: await sha256OfFile(path), sizeBytes: (await stat(path)).size };
  }
  await run.update((manifest) => ({ ...manifest, stages, files }));
  await writeRunProvenance(run);
};

const storeOfStage = (run: RunFolder, stage: string): string | undefined => {
  const [kind, ...source] = stage.split('--');
  if (kind === 'collect') return join(run.paths.responses, source.join('--'));
  return kind === 'judge' ? join(run.paths.verdicts, source.join('--')) : undefined;
};

const rewriteReport = async (run: RunFolder, { taskOf }: ForgetOptions): Promise<void> => {
  const task = await taskOf?.(run);
  await writeReport(run, task === undefined ? {} : { task });
};
