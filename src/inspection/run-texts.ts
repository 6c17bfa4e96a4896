import { nearestName, UserError } from '../base/errors.ts';
import { sha256 } from '../base/folders.ts';
import { type AnswerRecord, readAnswerRecords } from '../evaluation/answer-record.ts';
import { studentMessages } from '../priming/primed-messages.ts';
import { type ArmId, armName, parseArmName, parseSubjectName } from '../run-folder/arm.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { tasks } from '../tasks/index.ts';
import type { ModelText } from '../text/model-text.ts';
import { trainingRow } from '../text/training-row.ts';
import type { AttentionPrompt } from './attention-study.ts';

/**
 * Trained students of a run, by their full names or by their source, which stands for its first seed; without names the first seed of each.
 * Only adapters are looked at.
 */
export const trainedArms = async (run: RunFolder, names: readonly string[] | undefined, say?: (line: string) => void): Promise<ArmId[]> => {
  const { stages } = await run.manifest();
  const trained = Object.entries(stages).flatMap(([stage, { status }]) => {
    const arm = stage.startsWith('train--') && status === 'done' ? parseArmName(stage.slice('train--'.length)) : undefined;
    return arm === undefined ? [] : [arm];
  });
  const adapted = trained.filter(({ method }) => method.startsWith('lora'));
  const firstSeeds = adapted.filter((arm) => !adapted.some((other) => isSameButSeed(other, arm) && other.seed < arm.seed));
  const isMeant = (arm: ArmId, name: string): boolean => armName(arm) === name || (arm.source === name && firstSeeds.includes(arm));
  for (const name of names ?? []) {
    if (adapted.some((arm) => isMeant(arm, name))) continue;
    if (trained.some((arm) => armName(arm) === name || arm.source === name))
      throw new UserError(`${name} was not trained with LoRA: attention of whole students is not compared yet.`);
    const known = adapted.map(armName);
    const nearest = nearestName(name, [...known, ...adapted.map(({ source }) => source)]);
    throw new UserError(
      `Run ${run.name} has no trained arm ${name}${nearest === undefined ? '.' : `; did you mean ${nearest}?`} Arms: ${known.join(', ') || 'none'}.`,
    );
  }
  const chosen = names === undefined ? firstSeeds : adapted.filter((arm) => names.some((name) => isMeant(arm, name)));
  if (chosen.length === 0) throw new UserError(`Run ${run.name} has no student trained with LoRA yet. Train first: retort run CONFIG`);
  const left = names === undefined ? trained.filter((arm) => !adapted.includes(arm)) : [];
  if (left.length > 0) say?.(`Left out, being trained as a whole: ${left.map(armName).join(', ')}.`);
  return chosen;
};

const isSameButSeed = (a: ArmId, b: ArmId): boolean => a.source === b.source && a.method === b.method && a.student === b.student;

/** By what tells the arms apart: method, student and seed only where there are several. */
export const shortName = (arm: ArmId, arms: readonly ArmId[]): string => {
  const isShared = (key: keyof ArmId) => arms.every((other) => other[key] === arm[key]);
  const parts = [arm.source, ...(['method', 'student'] as const).flatMap((key) => (isShared(key) ? [] : [arm[key]]))];
  return `${parts.join(' · ')}${isShared('seed') ? '' : `, seed ${arm.seed}`}`;
};

/** Test questions, each with an answer that is the same for every subject, as the texts that students see. */
export interface RunTexts {
  /** The answers of the teacher where it was measured, else of the untouched student, else of any arm. */
  readonly answers: readonly AnswerRecord[];
  readonly answersOf: string;
  /** The text of a question and its answer, cut to so many tokens. */
  promptOf(answer: AnswerRecord, text: ModelText, maximumLength: number): AttentionPrompt;
}

export const openRunTexts = async (run: RunFolder): Promise<RunTexts> => {
  const instruction = await instructionOf(run);
  return {
    ...(await answersIn(run)),
    promptOf: ({ id, question, text }, { template, tokenizer }, maximumLength) => {
      const messages = studentMessages({ question, solution: '' }, instruction);
      // A question that fills the length by itself is looked at up to there.
      const row = trainingRow(template, tokenizer, messages, text, { maximumLength: 1 << 20, where: `question ${id}` });
      return { id, tokens: (row?.tokens ?? []).slice(0, maximumLength) };
    },
  };
};

const answersIn = async (run: RunFolder): Promise<Pick<RunTexts, 'answers' | 'answersOf'>> => {
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
