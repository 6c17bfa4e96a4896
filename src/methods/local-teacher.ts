import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { UserError } from '../base/errors.ts';
import type { RunConfig } from '../config/run-config.ts';
import { createEngine, runnerCountFor } from '../engines/create-engine.ts';
import type { Engine, TokenRow } from '../engines/engine.ts';
import { createTeacher } from '../teachers/create-teacher.ts';
import { engineTeacher } from '../teachers/engine.ts';
import type { Teacher } from '../teachers/teacher.ts';
import type { ChatMessage } from '../text/chat-message.ts';
import { loadModelText, type ModelText } from '../text/model-text.ts';
import { trainingRow } from '../text/training-row.ts';
import { modelFingerprint } from '../weights/model-folder.ts';
import { learnsEnd, textOptionsOf } from './departing.ts';
import type { Surroundings } from './surroundings.ts';

/** A run's teacher, opened when first asked for: a run whose answers are all there already never loads it. */
export interface RunTeacher {
  readonly open: () => Promise<Teacher>;
  /** The engine and text of a local teacher, for its logits. Throws where the teacher is not local. */
  readonly openLocal: () => Promise<LocalTeacher>;
  /** Which weights answer where the teacher is local; undefined elsewhere. It is not opened for it. */
  readonly revision: () => Promise<string | undefined>;
  /** Frees what was opened; it may be opened again. */
  readonly release: () => Promise<void>;
}

export interface LocalTeacher {
  readonly engine: Engine;
  readonly text: ModelText;
  /** Whether the end of an answer is among the tokens that its logits are wanted for; it is when this is absent. */
  readonly learnsEnd?: boolean;
}

export const runTeacher = (config: RunConfig, surroundings: Surroundings): RunTeacher => {
  let local: Promise<LocalTeacher> | undefined;
  let teacher: Promise<Teacher> | undefined;
  let known: Promise<string> | undefined;
  // Answers of a rounded teacher are other answers.
  const held = config.engine.inferencePrecision === 'float32' ? '' : ` in ${config.engine.inferencePrecision}`;
  const revisionOf = (model: string): Promise<string> => {
    // All bytes of the weights are read for it: once.
    known ??= surroundings
      .resolveModel(model)
      .then(modelFingerprint)
      .then((fingerprint) => `${fingerprint.slice(0, 16)}${held}`);
    return known;
  };
  const openModel = async (model: string): Promise<LocalTeacher> => {
    const modelFolder = await surroundings.resolveModel(model);
    const text = await loadModelText(modelFolder, textOptionsOf(config));
    const { precision, inferencePrecision, device, workers } = config.engine;
    const threadCount = config.engine.threadCount === undefined ? availableParallelism() : config.engine.threadCount * workers;
    const engine = await createEngine({
      modelFolder,
      initialisation: { from: 'folder' },
      parameters: { kind: 'none' },
      precision,
      inferencePrecision,
      device,
      layout: 'worker',
      threadCount,
      runnerCount: runnerCountFor(threadCount),
    });
    return { engine, text, learnsEnd: learnsEnd(config) };
  };
  const openLocal = async (): Promise<LocalTeacher> => {
    if (config.teacher?.kind !== 'local') throw new UserError('The logits of a teacher are to be had of a teacher of kind local alone.');
    local ??= openModel(config.teacher.model);
    return local;
  };
  return {
    openLocal,
    revision: async () => (config.teacher?.kind === 'local' ? revisionOf(config.teacher.model) : undefined),
    open: async () => {
      if (config.teacher === undefined) throw new UserError('This config names no teacher. Add `teacher:` to it.');
      teacher ??= createTeacher(config.teacher, {
        environment: surroundings.environment,
        offline: surroundings.offline,
        openLocal: async ({ model, batchSize }) => {
          const path = await surroundings.resolveModel(model);
          const identity = { model: basename(path), location: path, revision: await revisionOf(model) };
          return engineTeacher({ ...(await openLocal()), identity, ...(batchSize !== undefined && { batchSize }) });
        },
      });
      return teacher;
    },
    release: async () => {
      // What could not be opened was told to whoever asked for it, and is not to be released.
      const [asked, opened] = [await teacher?.catch(() => undefined), await local?.catch(() => undefined)];
      teacher = undefined;
      local = undefined;
      // A local teacher releases its engine; one that was opened for its logits alone is released here, and twice does no harm.
      await asked?.release();
      await opened?.engine.release();
    },
  };
};

/** The judge of a run's answers, opened and released as its teacher is. */
export const runJudge = (config: RunConfig, surroundings: Surroundings): RunTeacher => {
  const { verify } = config.collection;
  const { teacher: _, departures: __, ...judged } = config;
  return runTeacher(verify.by === 'judge' ? { ...judged, teacher: verify.teacher } : judged, surroundings);
};

export interface TeacherLogitsQuery {
  readonly teacher: LocalTeacher;
  /** What the teacher is asked: priming, question and instruction. */
  readonly messages: readonly ChatMessage[];
  readonly answer: string;
  /** The student's row for the same answer, without the priming. */
  readonly studentRow: TokenRow;
  readonly studentVocabularySize: number;
  readonly where: string;
}

/**
 * The teacher's logits for each token that the student is trained on, [weighted tokens, vocabulary]. The teacher reads priming, question and
 * answer, the student question and answer: the two are aligned on the answer's tokens, and that these are the same is checked.
 */
export const teacherLogitsOf = async (query: TeacherLogitsQuery): Promise<Float32Array> => {
  const { teacher, messages, answer, studentRow, where } = query;
  const { vocabularySize, contextLength } = teacher.engine.information;
  if (vocabularySize !== query.studentVocabularySize) {
    throw new UserError(
      `The teacher has ${vocabularySize} words and the student ${query.studentVocabularySize}: their probabilities are over different words. ` +
        'Take two models of one tokenizer, or train on the answers alone (loss: cross-entropy).',
    );
  }
  const row = trainingRow(teacher.text.template, teacher.text.tokenizer, messages, answer, {
    maximumLength: contextLength,
    ...(teacher.learnsEnd !== undefined && { learnsEnd: teacher.learnsEnd }),
    where,
  });
  const positions = row?.weights.flatMap((weight, position) => (weight === 0 ? [] : [position])) ?? [];
  const taught = positions.map((position) => row?.tokens[position]);
  const learnt = studentRow.tokens.filter((_, position) => studentRow.weights[position] !== 0);
  if (row === undefined || taught.length !== learnt.length || taught.some((token, index) => token !== learnt[index])) {
    throw new UserError(
      `${where}: the teacher's tokens of the answer (${taught.length}) are not the student's (${learnt.length}), so its logits belong to other tokens. ` +
        'Teacher and student must have one tokenizer and end their turns alike.',
    );
  }
  const [score] = await teacher.engine.score([{ tokens: row.tokens, logitPositions: positions.map((position) => position - 1) }]);
  return score?.logits ?? new Float32Array();
};
