import { UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { randomFrom, shuffled } from '../base/random.ts';
import type { Engine, ParameterSet } from '../engines/engine.ts';
import { type AnswerRecord, readAnswerRecords } from '../evaluation/answer-record.ts';
import { openLocalModel } from '../methods/local-model.ts';
import type { Surroundings } from '../methods/surroundings.ts';
import { decoderOf } from '../models/families.ts';
import { studentMessages } from '../priming/primed-messages.ts';
import { type ArmId, armName, parseArmName, parseSubjectName } from '../run-folder/arm.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { tasks } from '../tasks/index.ts';
import type { ModelText } from '../text/model-text.ts';
import { trainingRow } from '../text/training-row.ts';
import { readAdapter } from '../weights/adapter.ts';
import { openModelFolder, readModelConfiguration } from '../weights/model-folder.ts';
import { type AttentionPrompt, type AttentionStudy, engineMaps, studyAttention } from './attention-study.ts';

export interface InspectRunOptions {
  readonly run: RunFolder;
  /** The students' base: a folder, a .gguf file or a hub id. */
  readonly model: string;
  /** Held-out questions that are looked at; 64 when absent. */
  readonly promptCount?: number;
  /** Longer texts are cut to so many tokens; 256 when absent. */
  readonly maximumLength?: number;
  /** Arms by name; the first seed of each when absent. */
  readonly arms?: readonly string[];
  readonly onProgress?: (progress: { readonly doneCount: number; readonly totalCount: number }) => void;
}

export interface RunAttention {
  readonly study: AttentionStudy;
  /** Whose answers stand after the questions: the same texts for every subject. */
  readonly answersOf: string;
}

/**
 * Attention of a run's students beside their base, on held-out questions each followed by one and the same answer for all: what differs
 * between subjects is the weights alone.
 */
export const inspectRun = async (options: InspectRunOptions, surroundings: Surroundings): Promise<RunAttention> => {
  const { run, promptCount = 64, maximumLength = 256, onProgress } = options;
  const arms = await armsOf(run, options.arms);
  const { answers, answersOf } = await answersIn(run);
  const base = await openLocalModel({ model: options.model }, surroundings);
  try {
    const trained = await openLocalModel({ model: options.model, adapter: run.paths.student(arms[0]).adapter }, surroundings);
    try {
      const { layerCount, headCount } = decoderOf((await readModelConfiguration(base.path)).config);
      const instruction = await instructionOf(run);
      const chosen = shuffled(answers, randomFrom(0, 'inspected questions')).slice(0, promptCount);
      const prompts = chosen.map((answer) => promptOf(answer, base.text, instruction, maximumLength));
      const subjects = [{ name: 'base', maps: engineMaps(base.engine, { layerCount, headCount }) }];
      for (const arm of arms) {
        const parameters = await parametersOf(base.path, run.paths.student(arm).adapter);
        subjects.push({
          name: shortName(arm, arms),
          maps: engineMaps(withParameters(trained.engine, parameters), { layerCount, headCount }),
        });
      }
      // Texts of like length one after the other: programs are compiled for a length.
      prompts.sort((a, b) => a.tokens.length - b.tokens.length);
      const study = await studyAttention({
        prompts,
        subjects,
        ...(onProgress !== undefined && { onProgress }),
        ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
      });
      return { study, answersOf };
    } finally {
      await trained.engine.release();
    }
  } finally {
    await base.engine.release();
  }
};

/** One engine serves all arms: each look loads the arm's parameters first. Looks of one study come one after the other. */
const withParameters = (engine: Engine, parameters: ParameterSet): Engine => ({
  ...engine,
  score: async (rows) => {
    await engine.load(parameters);
    return engine.score(rows);
  },
});

/** By what tells the arms apart: method and student only where there are several. */
const shortName = (arm: ArmId, arms: readonly ArmId[]): string => {
  const isShared = (key: 'method' | 'student') => arms.every((other) => other[key] === arm[key]);
  const parts = [arm.source, ...(isShared('method') ? [] : [arm.method]), ...(isShared('student') ? [] : [arm.student])];
  return `${parts.join(' · ')}, seed ${arm.seed}`;
};

const parametersOf = async (modelPath: string, adapterFolder: string): Promise<ParameterSet> => {
  const { tensors } = await openModelFolder(modelPath);
  try {
    return (await readAdapter(adapterFolder, tensors.names)).parameters;
  } finally {
    await tensors.close();
  }
};

const armsOf = async (run: RunFolder, names: readonly string[] | undefined): Promise<[ArmId, ...ArmId[]]> => {
  const { stages } = await run.manifest();
  const trained = Object.entries(stages).flatMap(([stage, { status }]) => {
    const arm = stage.startsWith('train--') && status === 'done' ? parseArmName(stage.slice('train--'.length)) : undefined;
    return arm === undefined ? [] : [arm];
  });
  const known = trained.map(armName);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UserError(`Run ${run.name} has no trained arm ${unknown}. Arms: ${known.join(', ') || 'none'}.`);
  const firstSeeds = trained.filter(
    (arm) =>
      !trained.some(
        ({ source, method, student, seed }) => source === arm.source && method === arm.method && student === arm.student && seed < arm.seed,
      ),
  );
  const [first, ...rest] = names === undefined ? firstSeeds : trained.filter((arm) => names.includes(armName(arm)));
  if (first === undefined) throw new UserError(`Run ${run.name} has no trained student yet. Train first: retort run CONFIG`);
  const whole = [first, ...rest].find(({ method }) => !method.startsWith('lora'));
  if (whole !== undefined)
    throw new UserError(`${armName(whole)} was not trained with LoRA: attention of whole students is not compared here yet.`);
  return [first, ...rest];
};

/** The answers of the teacher where it was measured, else of the untouched student, else of any arm. */
const answersIn = async (run: RunFolder): Promise<{ answers: AnswerRecord[]; answersOf: string }> => {
  const { stages } = await run.manifest();
  const done = Object.entries(stages).flatMap(([stage, { status }]) =>
    stage.startsWith('evaluate--') && status === 'done' ? [stage.slice('evaluate--'.length)] : [],
  );
  const name = done.find((one) => one === 'teacher') ?? done.find((one) => one.startsWith('untouched--')) ?? done[0];
  const subject = name === undefined ? undefined : parseSubjectName(name);
  if (name === undefined || subject === undefined)
    throw new UserError(`Run ${run.name} has no answers to test questions yet: there is nothing to look at.`);
  const answers = (await readAnswerRecords(run.paths.answers(subject))).filter(({ text }) => text.trim() !== '');
  if (answers.length === 0) throw new UserError(`All answers of ${name} are empty: there is nothing to look at.`);
  return { answers, answersOf: name };
};

const instructionOf = async (run: RunFolder): Promise<string> => {
  const { protocol } = await run.manifest();
  const task = Object.values(tasks).find(({ name }) => name === protocol.task);
  const instruction = task?.instruction ?? '';
  if (sha256(instruction) !== protocol.instruction) {
    throw new UserError(
      `The instruction of task ${protocol.task} is not the one of this run: it is a task of your own, or of another version of retort.`,
    );
  }
  return instruction;
};

const promptOf = (
  { id, question, text }: AnswerRecord,
  { template, tokenizer }: ModelText,
  instruction: string,
  maximumLength: number,
): AttentionPrompt => {
  const messages = studentMessages({ question, solution: '' }, instruction);
  // A question that fills the length by itself is looked at up to there.
  const row = trainingRow(template, tokenizer, messages, text, { maximumLength: 1 << 20, where: `question ${id}` });
  return { id, tokens: (row?.tokens ?? []).slice(0, maximumLength) };
};
