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

/** What one subject's heads measure on one prompt: by measure, [layers][heads]. */
export type SubjectMeasures = Readonly<Record<FirstColumn, Readonly<Partial<Record<StudyMeasure, HeadTable>>>>>;

/** Measures every subject on a prompt, the base first. */
export type MeasurePrompt = (prompt: AttentionPrompt) => Promise<readonly SubjectMeasures[]>;

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

/** A head, the student in which it kept closest to the base, and the one in which it moved farthest. */
export interface DifferingHead {
  readonly layer: number;
  readonly head: number;
  readonly least: string;
  readonly most: string;
  /** Mean over prompts of the change in `most` less the change in `least`. */
  readonly difference: number;
  readonly interval: Interval;
}

export interface AttentionStudy {
  readonly promptCount: number;
  readonly tokenCount: number;
  readonly subjects: readonly SubjectAttention[];
  /** Heads whose maps differ most from the base's, the first token's column left out, largest first. */
  readonly changedHeads: readonly ChangedHead[];
  /** Heads that changed most unlike in two of the students, largest difference first. */
  readonly differingHeads: readonly DifferingHead[];
}

export interface StudyOptions {
  readonly prompts: readonly AttentionPrompt[];
  /** Names of the subjects, the base first: the others are compared with it. */
  readonly subjects: readonly string[];
  /** As many prompts are measured at once as there are of these. */
  readonly measurers: readonly MeasurePrompt[];
  readonly drawCount?: number;
  readonly changedHeadCount?: number;
  readonly onProgress?: (progress: { readonly doneCount: number; readonly totalCount: number }) => void;
  readonly signal?: AbortSignal;
}

/**
 * Measures every head of every layer of each subject over the same prompts. Means are over prompts, intervals from the bootstrap over
 * prompts: what they speak of is other prompts of this kind, not other trained students.
 */
export const studyAttention = async (options: StudyOptions): Promise<AttentionStudy> => {
  const { prompts, subjects, drawCount = 1000, changedHeadCount = 20 } = options;
  const measured = await measureAll(options);
  return {
    promptCount: prompts.length,
    tokenCount: prompts.reduce((sum, { tokens }) => sum + tokens.length, 0),
    subjects: subjects.map((name, subject) => {
      const summarise = (column: FirstColumn) =>
        Object.fromEntries(
          studyMeasures.flatMap((measure) => {
            const table = tableOf(measured, subject, column, measure);
            return table.length === 0 ? [] : [[measure, summariseMeasure(table, drawCount, `${name} ${measure}`)]];
          }),
        );
      return { name, measures: { with: summarise('with'), without: summarise('without') } };
    }),
    ...headsBeside(subjects, measured, changedHeadCount, drawCount),
  };
};

/** [prompts][subjects], each measurer taking the next prompt that nobody has. */
const measureAll = async ({ prompts, measurers, onProgress, signal }: StudyOptions): Promise<(readonly SubjectMeasures[])[]> => {
  const measured: (readonly SubjectMeasures[])[] = [];
  const waiting = [...prompts.entries()].reverse();
  let doneCount = 0;
  const work = async (measure: MeasurePrompt): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      signal?.throwIfAborted();
      measured[next[0]] = await measure(next[1]);
      doneCount++;
      onProgress?.({ doneCount, totalCount: prompts.length });
    }
  };
  const ends = await Promise.allSettled(
    measurers.map((measure) =>
      work(measure).catch((reason: unknown) => {
        waiting.length = 0; // the others end with what they have begun
        throw reason;
      }),
    ),
  );
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return measured;
};

/** One measure of one subject, [prompts][layers][heads]; empty where it is not measured. */
const tableOf = (
  measured: readonly (readonly SubjectMeasures[])[],
  subject: number,
  column: FirstColumn,
  measure: StudyMeasure,
): HeadTable[] =>
  measured.flatMap((subjects) => {
    const heads = subjects[subject]?.[column][measure];
    return heads === undefined ? [] : [heads];
  });

/** Measures whole maps, from wherever they come. All subjects go through the layers side by side: two layers of each are the most that is held. */
export const mapMeasurer =
  (subjects: readonly { readonly name: string; readonly maps: MapSource }[]): MeasurePrompt =>
  async (prompt) => {
    const walks = subjects.map(({ maps }) => maps(prompt)[Symbol.asyncIterator]());
    const previous: Partial<Record<FirstColumn, AttentionMaps>>[] = subjects.map(() => ({}));
    const measured = subjects.map(() => ({ with: {} as MutableTables, without: {} as MutableTables }));
    try {
      for (;;) {
        const steps = [];
        for (const walk of walks) steps.push(await walk.next());
        if (steps.every(({ done }) => done === true)) return measured;
        let base: Record<FirstColumn, AttentionMaps> | undefined;
        for (const [index, step] of steps.entries()) {
          if (step.done === true) throw new ShapeError(`${subjects[index]?.name ?? ''} has fewer layers than another subject`);
          const both = { with: step.value, without: withoutFirstToken(step.value) };
          for (const column of ['with', 'without'] as const) {
            for (const [measure, heads] of measuresOf(both[column], previous[index]?.[column], base?.[column])) {
              const tables = measured[index]?.[column] ?? {};
              tables[measure] = [...(tables[measure] ?? []), heads];
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

type MutableTables = Partial<Record<StudyMeasure, number[][]>>;

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

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

const summariseMeasure = (table: readonly HeadTable[], drawCount: number, label: string): MeasureSummary => {
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

/** Heads ranked by how far they moved from the base's, and by how unlike they moved in two students. */
const headsBeside = (
  names: readonly string[],
  measured: readonly (readonly SubjectMeasures[])[],
  count: number,
  drawCount: number,
): Pick<AttentionStudy, 'changedHeads' | 'differingHeads'> => {
  const moved = names.flatMap((subject, index) => {
    const table = tableOf(measured, index, 'without', 'similarityToBase');
    return (table[0] ?? []).flatMap((heads, layer) =>
      heads.map((_, head) => {
        const changes = table.map((layersOfPrompt) => 1 - (layersOfPrompt[layer]?.[head] ?? Number.NaN));
        return { subject, layer, head, changes, change: mean(changes) };
      }),
    );
  });
  const places = Map.groupBy(moved, ({ layer, head }) => `${layer} ${head}`);
  const unlike = [...places.values()].flatMap((students) => {
    const [least, ...others] = students.toSorted((a, b) => a.change - b.change);
    const most = others.at(-1);
    if (least === undefined || most === undefined) return [];
    const differences = most.changes.map((change, prompt) => change - (least.changes[prompt] ?? Number.NaN));
    const { layer, head } = most;
    return [{ layer, head, least: least.subject, most: most.subject, difference: mean(differences), differences }];
  });
  return {
    changedHeads: moved
      .sort((a, b) => b.change - a.change)
      .slice(0, count)
      .map(({ changes, ...rest }) => ({
        ...rest,
        interval: intervalOver(changes, drawCount, `${rest.subject} ${rest.layer} ${rest.head}`),
      })),
    differingHeads: unlike
      .sort((a, b) => b.difference - a.difference)
      .slice(0, count)
      .map(({ differences, ...rest }) => ({
        ...rest,
        interval: intervalOver(differences, drawCount, `between students ${rest.layer} ${rest.head}`),
      })),
  };
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
