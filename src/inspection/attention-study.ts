import { InternalError, ShapeError } from '../base/errors.ts';
import { randomFrom } from '../base/random.ts';
import type { Engine } from '../engines/engine.ts';
import { bootstrapInterval } from '../evaluation/bootstrap.ts';
import type { Interval } from '../evaluation/proportion.ts';
import { type AttentionMaps, headSimilarities, type MeasureName, measureHeads, withoutFirstToken } from './attention-measures.ts';

/** One text to look at heads on. */
export interface AttentionPrompt {
  readonly id: string;
  readonly tokens: readonly number[];
}

/** Gives the maps of every layer on a prompt, from the first layer on, one layer in memory at a time. */
export type MapSource = (prompt: AttentionPrompt) => AsyncIterable<AttentionMaps>;

/** What is measured of each head, with the first token's column and without it. */
export type StudyMeasure = MeasureName | 'similarityToPreviousLayer' | 'similarityToBase';
export const studyMeasures: readonly StudyMeasure[] = [
  'entropy',
  'focus',
  'sparsity',
  'firstToken',
  'similarityToPreviousLayer',
  'similarityToBase',
];

/** [layers][heads], means over prompts. */
export type HeadTable = readonly (readonly number[])[];

/** A measure of one subject. NaN stands where there is nothing to compare with: layer 0 has no layer before it. */
export interface MeasureSummary {
  readonly heads: HeadTable;
  /** Over heads, by layer, with the interval over prompts. */
  readonly layers: readonly { readonly mean: number; readonly interval: Interval }[];
}

export type FirstColumn = 'with' | 'without';

export interface SubjectAttention {
  readonly name: string;
  readonly measures: Readonly<Record<FirstColumn, Readonly<Partial<Record<StudyMeasure, MeasureSummary>>>>>;
}

export interface ChangedHead {
  readonly subject: string;
  readonly layer: number;
  readonly head: number;
  /** Mean over prompts of 1 − cosine to the base's map. */
  readonly change: number;
  readonly interval: Interval;
}

export interface AttentionStudy {
  readonly promptCount: number;
  readonly tokenCount: number;
  readonly subjects: readonly SubjectAttention[];
  /** Heads whose maps differ most from the base's, the first token's column left out, largest first. */
  readonly changedHeads: readonly ChangedHead[];
}

export interface StudyOptions {
  readonly prompts: readonly AttentionPrompt[];
  /** The base first: the others are compared with it. */
  readonly subjects: readonly { readonly name: string; readonly maps: MapSource }[];
  readonly drawCount?: number;
  readonly changedHeadCount?: number;
  readonly onProgress?: (progress: { readonly doneCount: number; readonly totalCount: number }) => void;
  readonly signal?: AbortSignal;
}

/** By measure: [prompts][layers][heads]. */
type Collected = Record<FirstColumn, Map<StudyMeasure, number[][][]>>;

/**
 * Measures every head of every layer of each subject over the same prompts. Means are over prompts, intervals from the bootstrap over
 * prompts: what they speak of is other prompts of this kind, not other trained students.
 */
export const studyAttention = async (options: StudyOptions): Promise<AttentionStudy> => {
  const { prompts, subjects, drawCount = 1000, changedHeadCount = 20, onProgress, signal } = options;
  const collected = subjects.map((): Collected => ({ with: new Map(), without: new Map() }));
  for (const [index, prompt] of prompts.entries()) {
    signal?.throwIfAborted();
    await measurePrompt(prompt, subjects, collected);
    onProgress?.({ doneCount: index + 1, totalCount: prompts.length });
  }
  return {
    promptCount: prompts.length,
    tokenCount: prompts.reduce((sum, { tokens }) => sum + tokens.length, 0),
    subjects: subjects.map(({ name }, index) => {
      const own = collected[index] ?? { with: new Map(), without: new Map() };
      const summarise = (tables: Collected[FirstColumn]) =>
        Object.fromEntries([...tables].map(([measure, table]) => [measure, summariseMeasure(table, drawCount, `${name} ${measure}`)]));
      return { name, measures: { with: summarise(own.with), without: summarise(own.without) } };
    }),
    changedHeads: changedHeads(
      subjects.map(({ name }) => name),
      collected,
      changedHeadCount,
      drawCount,
    ),
  };
};

/** All subjects go through the layers side by side, so that two layers of each are the most that is held. */
const measurePrompt = async (
  prompt: AttentionPrompt,
  subjects: StudyOptions['subjects'],
  collected: readonly Collected[],
): Promise<void> => {
  const walks = subjects.map(({ maps }) => maps(prompt)[Symbol.asyncIterator]());
  const previous: Partial<Record<FirstColumn, AttentionMaps>>[] = subjects.map(() => ({}));
  try {
    for (;;) {
      const steps = [];
      for (const walk of walks) steps.push(await walk.next());
      if (steps.every(({ done }) => done === true)) return;
      let base: Record<FirstColumn, AttentionMaps> | undefined;
      for (const [index, step] of steps.entries()) {
        if (step.done === true) throw new ShapeError(`${subjects[index]?.name ?? ''} has fewer layers than another subject`);
        const both = { with: step.value, without: withoutFirstToken(step.value) };
        for (const column of ['with', 'without'] as const) {
          const tables = collected[index]?.[column];
          const maps = both[column];
          const before = previous[index]?.[column];
          if (tables === undefined) continue;
          for (const [measure, values] of measuresOf(maps, before, base?.[column])) {
            addLayer(tables, measure, values, before === undefined);
          }
        }
        previous[index] = both;
        base ??= both;
      }
    }
  } finally {
    for (const walk of walks) await walk.return?.();
  }
};

/** By measure, one value a head. */
const measuresOf = (
  maps: AttentionMaps,
  before: AttentionMaps | undefined,
  base: AttentionMaps | undefined,
): [StudyMeasure, number[]][] => {
  const heads = measureHeads(maps);
  return [
    ...(['entropy', 'focus', 'sparsity', 'firstToken'] as const).map((name): [StudyMeasure, number[]] => [
      name,
      heads.map((head) => head[name]),
    ]),
    ['similarityToPreviousLayer', before === undefined ? heads.map(() => Number.NaN) : headSimilarities(maps, before)],
    ...(base === undefined ? [] : [['similarityToBase', headSimilarities(maps, base)] satisfies [StudyMeasure, number[]]]),
  ];
};

/** The first layer of a prompt begins a new row of the table. */
const addLayer = (tables: Collected[FirstColumn], measure: StudyMeasure, values: readonly number[], isFirst: boolean): void => {
  const table = tables.get(measure) ?? [];
  tables.set(measure, table);
  if (isFirst) table.push([]);
  table.at(-1)?.push([...values]);
};

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

const summariseMeasure = (table: readonly (readonly (readonly number[])[])[], drawCount: number, label: string): MeasureSummary => {
  const layerCount = table[0]?.length ?? 0;
  const layers = Array.from({ length: layerCount }, (_, layer) => {
    const perPrompt = table.map((layersOfPrompt) => mean(layersOfPrompt[layer] ?? []));
    return { mean: mean(perPrompt), interval: intervalOver(perPrompt, drawCount, `${label} ${layer}`) };
  });
  const heads = Array.from({ length: layerCount }, (_, layer) =>
    (table[0]?.[layer] ?? []).map((_value, head) => mean(table.map((layersOfPrompt) => layersOfPrompt[layer]?.[head] ?? Number.NaN))),
  );
  return { heads, layers };
};

const intervalOver = (values: readonly number[], drawCount: number, label: string): Interval => {
  if (values.some(Number.isNaN)) return { low: Number.NaN, high: Number.NaN, confidence: 0.95 };
  const statistic = (drawn: Int32Array): number => {
    let sum = 0;
    for (const index of drawn) sum += values[index] ?? 0;
    return sum / drawn.length;
  };
  return bootstrapInterval(values.length, statistic, randomFrom(0, 'attention', label), { drawCount });
};

const changedHeads = (names: readonly string[], collected: readonly Collected[], count: number, drawCount: number): ChangedHead[] => {
  const all = names.flatMap((subject, index) => {
    const table = collected[index]?.without.get('similarityToBase');
    return (table?.[0] ?? []).flatMap((heads, layer) =>
      heads.map((_, head) => {
        const changes = (table ?? []).map((layersOfPrompt) => 1 - (layersOfPrompt[layer]?.[head] ?? Number.NaN));
        return { subject, layer, head, changes, change: mean(changes) };
      }),
    );
  });
  return all
    .sort((a, b) => b.change - a.change)
    .slice(0, count)
    .map(({ changes, ...rest }) => ({ ...rest, interval: intervalOver(changes, drawCount, `${rest.subject} ${rest.layer} ${rest.head}`) }));
};

export interface EngineMapOptions {
  readonly layerCount: number;
  readonly headCount: number;
  /** As many layers a run as their maps fit into this; at least one. 128 MiB when absent: all of SmolLM2's at 256 tokens. */
  readonly limitBytes?: number;
}

/** Maps out of an engine: its `attention.L` taps. */
export const engineMaps = (engine: Engine, { layerCount, headCount, limitBytes = 128 << 20 }: EngineMapOptions): MapSource =>
  async function* ({ tokens }) {
    const layerBytes = headCount * tokens.length ** 2 * Float32Array.BYTES_PER_ELEMENT;
    const perRun = Math.min(layerCount, Math.max(1, Math.floor(limitBytes / layerBytes)));
    for (let layer = 0; layer < layerCount; layer += perRun) {
      const names = Array.from({ length: Math.min(perRun, layerCount - layer) }, (_, index) => `attention.${layer + index}`);
      const [score] = await engine.score([{ tokens, taps: names }]);
      for (const name of names) {
        const tap = score?.taps?.[name];
        const [heads, length] = tap?.shape ?? [];
        if (tap === undefined || heads === undefined || length === undefined) throw new InternalError(`the engine handed out no ${name}`);
        yield { headCount: heads, length, data: tap.data };
      }
    }
  };
