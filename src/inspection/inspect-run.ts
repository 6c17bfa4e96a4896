import { availableParallelism } from 'node:os';
import { nearestName, UserError } from '../base/errors.ts';
import { randomFrom, shuffled } from '../base/random.ts';
import { openLocalModel } from '../methods/local-model.ts';
import type { Surroundings } from '../methods/surroundings.ts';
import { decoderOf } from '../models/families.ts';
import { armName } from '../run-folder/arm.ts';
import type { RunFolder } from '../run-folder/run-folder.ts';
import { loadModelText } from '../text/model-text.ts';
import { readModelConfiguration } from '../weights/model-folder.ts';
import type { AttentionMeter } from './attention-meter.ts';
import { type AttentionStudy, type StudyOptions, studyAttention } from './attention-study.ts';
import { type HeadMap, type HeadPlace, headMapOf } from './head-map.ts';
import { openRunTexts, shortName, trainedArms } from './run-texts.ts';
import { openThreadedMeter } from './threaded-meter.ts';

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
  /** Texts that are looked at side by side, a thread each; as many as there are cores when absent. */
  readonly threadCount?: number;
  readonly onProgress?: (progress: { readonly doneCount: number; readonly totalCount: number }) => void;
}

export interface RunAttention {
  readonly study: AttentionStudy;
  /** Whose answers stand after the questions: the same texts for every subject. */
  readonly answersOf: string;
  /** Of the arms that were looked at. */
  readonly seeds: readonly number[];
}

/**
 * Attention of a run's students beside their base, on held-out questions each followed by one and the same answer for all: what differs
 * between subjects is the weights alone.
 */
export const inspectRun = async (options: InspectRunOptions, surroundings: Surroundings): Promise<RunAttention> => {
  const { run, promptCount = 64, maximumLength = 256, threadCount = availableParallelism(), onProgress } = options;
  const arms = await trainedArms(run, options.arms, surroundings.say);
  const { answers, answersOf, promptOf } = await openRunTexts(run);
  const path = await surroundings.resolveModel(options.model);
  const text = await loadModelText(path);
  const chosen = shuffled(answers, randomFrom(0, 'inspected questions')).slice(0, promptCount);
  // Texts of like length one after the other: programs are compiled for a length.
  const prompts = chosen.map((answer) => promptOf(answer, text, maximumLength)).sort((a, b) => a.tokens.length - b.tokens.length);
  const study = await studyModel({
    modelFolder: path,
    adapters: arms.map((arm) => ({ name: shortName(arm, arms), folder: run.paths.student(arm).adapter })),
    prompts,
    threadCount,
    ...(onProgress !== undefined && { onProgress }),
    ...(surroundings.signal !== undefined && { signal: surroundings.signal }),
  });
  const seeds = [...new Set(arms.map(({ seed }) => seed))];
  return { study, answersOf, seeds };
};

export interface StudyModelOptions extends Omit<StudyOptions, 'subjects' | 'measurers'> {
  /** A folder or a .gguf file: the base. */
  readonly modelFolder: string;
  /** Students of it, each a PEFT adapter. */
  readonly adapters: readonly { readonly name: string; readonly folder: string }[];
  readonly threadCount: number;
}

/** Attention of a model, and of adapters on it, on texts of tokens; each thread measures a text by itself. */
export const studyModel = async ({ modelFolder, adapters, threadCount, ...rest }: StudyModelOptions): Promise<AttentionStudy> => {
  const meters: AttentionMeter[] = [];
  try {
    for (let index = 0; index < Math.min(threadCount, rest.prompts.length); index++) {
      meters.push(await openThreadedMeter({ modelFolder, adapters: adapters.map(({ folder }) => folder), threadCount: 1 }));
    }
    return await studyAttention({
      ...rest,
      subjects: ['base', ...adapters.map(({ name }) => name)],
      measurers: meters.map(
        (meter) =>
          ({ tokens }) =>
            meter.measure(tokens),
      ),
    });
  } finally {
    for (const meter of meters) await meter.release();
  }
};

export interface RunHeadOptions extends HeadPlace {
  readonly run: RunFolder;
  readonly model: string;
  /** An arm by name; the base when absent. */
  readonly arm?: string;
  /** A test question by its id; the first when absent. */
  readonly promptId?: string;
  readonly maximumLength?: number;
}

/** The map of one head of one subject on one test question with its answer, and the text of each token. */
export const inspectHead = async (options: RunHeadOptions, surroundings: Surroundings): Promise<HeadMap> => {
  const { run, promptId, maximumLength = 256, layer, head } = options;
  const [arm] = options.arm === undefined ? [] : await trainedArms(run, [options.arm]);
  const { answers, promptOf } = await openRunTexts(run);
  const answer = promptId === undefined ? answers[0] : answers.find(({ id }) => id === promptId);
  if (answer === undefined) {
    const ids = answers.map(({ id }) => id);
    const nearest = nearestName(promptId ?? '', ids);
    throw new UserError(
      `Run ${run.name} has no answered question ${promptId}${nearest === undefined ? '.' : `; did you mean ${nearest}?`} There are ${ids.length}: ${ids.slice(0, 5).join(', ')} …`,
    );
  }
  const { engine, text, path } = await openLocalModel(
    { model: options.model, ...(arm !== undefined && { adapter: run.paths.student(arm).adapter }) },
    surroundings,
  );
  try {
    const { layerCount } = decoderOf((await readModelConfiguration(path)).config);
    if (layer >= layerCount) throw new UserError(`The model has layers 0 to ${layerCount - 1}; there is no layer ${layer}.`);
    const prompt = promptOf(answer, text, maximumLength);
    const name = `attention.${layer}`;
    const [score] = await engine.score([{ tokens: prompt.tokens, taps: [name] }]);
    const { shape = [], data = new Float32Array() } = score?.taps?.[name] ?? {};
    const [headCount = 0, length = 0] = shape;
    return headMapOf(
      { headCount, length, data },
      { layer, head },
      {
        subject: arm === undefined ? 'base' : armName(arm),
        promptId: prompt.id,
        tokens: prompt.tokens.map((token) => text.tokenizer.decode([token])),
      },
    );
  } finally {
    await engine.release();
  }
};
