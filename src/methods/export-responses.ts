import { readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { makeFolder, ownerOnly, sha256, writeFileAtomic } from '../base/folders.ts';
import type { ConfigSurroundings } from '../config/parse-config.ts';
import { parseRecordedConfig, type RecordedConfig } from '../config/recorded-config.ts';
import { primedMessages, studentMessages } from '../priming/primed-messages.ts';
import { type ExportFormatName, type ExportRow, exportFormats } from '../responses/export-formats.ts';
import { promptHash } from '../responses/request-key.ts';
import type { Response } from '../responses/response.ts';
import { readResponses, responsesFile } from '../responses/response-store.ts';
import type { RunManifest } from '../run-folder/manifest.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { stageNames } from '../run-folder/stage.ts';
import type { Example, Task } from '../tasks/task.ts';
import { exportCard } from './export-card.ts';
import { questionsOf } from './questions.ts';
import type { Surroundings } from './surroundings.ts';
import { trainerConfigs } from './trainer-configs.ts';

export interface ExportResponsesOptions {
  readonly run: RunFolder;
  readonly format: ExportFormatName;
  /** A folder that is empty or not there. */
  readonly output: string;
  /** The arm whose answers are written; absent: every arm's, each in a folder of its name. */
  readonly arm?: string;
  /** The prompts as the teacher saw them, priming and all; absent: as the students see them. */
  readonly isPrimed?: boolean;
  /** The config's folder, where it was moved since. */
  readonly configFolder?: string;
  readonly configSurroundings: Omit<ConfigSurroundings, 'folder'>;
}

/** What was written for one arm. */
export interface ExportedArm {
  readonly arm: string;
  readonly folder: string;
  readonly rowCount: number;
  /** By name, the data's first. */
  readonly files: readonly string[];
  readonly sha256: string;
}

/**
 * The answers that a run's arms learn from as other trainers read them, each arm in a folder with the trainers' configs, and a README that says where
 * they come from. Nothing is written unless every answer belongs to the question that it is written under.
 */
export const exportResponses = async (options: ExportResponsesOptions, surroundings: Surroundings): Promise<readonly ExportedArm[]> => {
  const { run, output, arm: wanted } = options;
  await checkEmpty(output);
  const config = await recordedConfig(options);
  const arms = wanted === undefined ? config.arms : config.arms.filter(({ name }) => name === wanted);
  if (arms.length === 0) {
    throw new UserError(`${run.name} has no arm ${wanted}. Its arms: ${config.arms.map(({ name }) => name).join(', ')}.`);
  }
  const { task, train } = await questionsOf(config.task, surroundings);
  const questions = { task, examples: new Map(train.map((example) => [example.id, example])) };
  const exported = [];
  for (const arm of arms) exported.push({ arm, ...(await rowsOf(arm, questions, options)) });
  const written: ExportedArm[] = [];
  for (const part of exported) {
    written.push(await writeArm(part, wanted === undefined ? join(output, part.arm.name) : output, config, options));
  }
  return written;
};

const checkEmpty = async (folder: string): Promise<void> => {
  const [first] = await readdir(folder).catch(() => []);
  if (first !== undefined) throw new UserError(`${folder} is not empty (${first}). Give --output a folder that is empty or not there.`);
};

const recordedConfig = async ({ run, configFolder, configSurroundings }: ExportResponsesOptions): Promise<RecordedConfig> => {
  const { configFolder: recorded } = await run.manifest();
  const folder = configFolder ?? (recorded === undefined ? dirname(run.path) : resolve(run.path, recorded));
  return parseRecordedConfig(await run.resolvedConfig(), run.paths.resolvedConfig, { ...configSurroundings, folder });
};

type Arm = RecordedConfig['arms'][number];

/** A selected arm's answers lie where those that they were chosen among do. */
const storeOf = (run: RunFolder, { kind, name, of }: Arm): string => join(run.paths.responses, kind === 'selected' ? (of ?? name) : name);

const keysSchema = z.looseObject({ keys: z.array(z.string()) });
const curatedSchema = z.looseObject({ keys: z.record(z.string(), z.array(z.string())) });

/** The answers that an arm learns from, of those that are in its store: verified, chosen and looked through, where the run does so. */
const keysOf = ({ stages, plannedStages }: RunManifest, arm: Arm): readonly string[] => {
  const isDone = (name: string): boolean => stages[name]?.status === 'done';
  const curate = stageNames.curate('answers');
  const collect = stageNames.collect(arm.kind === 'selected' ? (arm.of ?? '') : arm.name);
  if (!isDone(collect) || (plannedStages.includes(curate) && !isDone(curate)))
    throw new UserError(`The answers of ${arm.name} are not complete. Go on with: retort collect CONFIG`);
  const curated = curatedSchema.safeParse(stages[curate]?.facts).data?.keys[arm.name];
  return curated ?? keysSchema.parse(stages[collect]?.facts).keys;
};

interface ArmRows {
  readonly rows: readonly ExportRow[];
  readonly responses: readonly Response[];
}

/** The rows of an arm, in the order of the questions. */
const rowsOf = async (
  arm: Arm,
  { task, examples }: { readonly task: Task; readonly examples: ReadonlyMap<string, Example> },
  { run, isPrimed = false }: ExportResponsesOptions,
): Promise<ArmRows> => {
  const folder = storeOf(run, arm);
  const responses = await readResponses(folder, { keys: keysOf(await run.manifest(), arm) });
  const rows = responses.map((response) => {
    const example = examples.get(response.exampleId);
    if (example === undefined || sha256(example.question) !== response.exampleHash) {
      throw new UserError(
        `${responsesFile(folder)}: the answer to ${response.exampleId} belongs to another question than the data hold now. ` +
          'Give --config with the config as it was when the answers were collected, and its data.',
      );
    }
    const { id } = example;
    const messages = isPrimed ? teacherMessages(arm, example, task, response) : studentMessages(example, task.instruction);
    return { id: response.sampleIndex === 0 ? id : `${id}-${response.sampleIndex}`, messages, answer: response.text };
  });
  if (rows.length === 0) throw new UserError(`${arm.name} has no kept answers. See why with: retort collect CONFIG --failures`);
  return { rows, responses };
};

/** What the teacher was asked; of answers without a teacher, what the student is. */
const teacherMessages = (arm: Arm, example: Example, { instruction }: Task, response: Response) => {
  if (arm.strategy === undefined || arm.kind === 'gold') return studentMessages(example, instruction);
  const messages = primedMessages(arm.strategy, example, instruction);
  if (promptHash(messages) === response.promptHash) return messages;
  throw new UserError(`${arm.name}, ${example.id}: the priming or the instruction is another one than when the answer was collected.`);
};

const writeArm = async (
  { arm, rows, responses }: ArmRows & { readonly arm: Arm },
  folder: string,
  config: RecordedConfig,
  { run, format: formatName, isPrimed = false }: ExportResponsesOptions,
): Promise<ExportedArm> => {
  const format = exportFormats[formatName];
  const data = format.encode(rows);
  const hash = sha256(data);
  const { student, training, seeds } = config;
  const files = new Map<string, string | Uint8Array>([
    [format.fileName, data],
    ...trainerConfigs({ name: arm.name, format, student, training, seed: seeds[0] ?? 0 }),
  ]);
  const card = await exportCard({
    run,
    arm: arm.name,
    answersOf: arm.of ?? arm.name,
    store: storeOf(run, arm),
    formatName,
    format,
    isPrimed,
    rows,
    responses,
    hash,
    files: [...files.keys()],
  });
  await makeFolder(folder);
  // The README last: where it is, everything is.
  for (const [name, content] of [...files, ['README.md', card] as const])
    await writeFileAtomic(join(folder, name), content, { mode: ownerOnly });
  return { arm: arm.name, folder, rowCount: rows.length, files: [...files.keys(), 'README.md'], sha256: hash };
};
