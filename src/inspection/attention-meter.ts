import { InternalError, UserError } from '../base/errors.ts';
import { lengthBucket } from '../engines/buckets.ts';
import { compileOptionsOf, type LoadedModel, loadModel } from '../engines/loaded-model.ts';
import { type ProgramCache, programCache } from '../engines/program-cache.ts';
import { peakBytes } from '../graph/peak-bytes.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import { compileProgram } from '../runtime/onnx-program.ts';
import { type Adapter, readAdapter } from '../weights/adapter.ts';
import { openModelFolder } from '../weights/model-folder.ts';
import { attentionGraph, sumsName } from './attention-graph.ts';
import type { FirstColumn, StudyMeasure, SubjectMeasures } from './attention-study.ts';
import { type HeadRowSums, headRowSums, measuresWithFirst, measuresWithoutFirst, similarity } from './row-sums.ts';
import { sharedShape, stackedAdapters } from './stacked-adapters.ts';

/** A base and students of it, as data that can be sent to a thread. */
export interface MeterSpecification {
  readonly modelFolder: string;
  /** A PEFT adapter's folder for each student. */
  readonly adapters: readonly string[];
  /** Threads inside one operation. */
  readonly threadCount: number;
  /** One layer's maps, of all subjects that run together, take no more; 32 MiB when absent. */
  readonly mapBytes?: number;
}

/** Measures every head of a base and its students on a text. */
export interface AttentionMeter {
  /** The base first, then the students in their order. */
  measure(tokens: readonly number[]): Promise<SubjectMeasures[]>;
  release(): Promise<void>;
}

/** Compiled programs of so many bytes are kept; texts that come sorted by length need one at a time. */
const programBytes = 256 << 20;

/**
 * Measures in the calling thread, which each run blocks. The maps are reduced to sums of their rows in the program that makes them, all
 * subjects in one batch, so that two layers' maps are the most that is held and no map is copied.
 */
export const openAttentionMeter = async (specification: MeterSpecification): Promise<AttentionMeter> => {
  const { modelFolder } = specification;
  const { tensors } = await openModelFolder(modelFolder);
  const adapters: Adapter[] = [];
  try {
    for (const folder of specification.adapters) adapters.push(await readAdapter(folder, tensors.names));
  } finally {
    await tensors.close();
  }
  const model = await loadModel({
    modelFolder,
    initialisation: { from: 'folder' },
    parameters: { kind: 'none' },
    precision: 'float32',
    device: 'cpu',
    layout: 'thread',
  });
  const programs = programCache(programBytes);
  return {
    measure: async (tokens) => {
      checkText(tokens, model);
      const measured: SubjectMeasures[] = [];
      for (const group of groupsOf(adapters, tokens.length, specification, model)) {
        const [base, ...students] = await measureGroup(tokens, group, { model, adapters, programs, specification });
        if (base === undefined) throw new InternalError('a group without a base');
        measured.push(...(measured.length === 0 ? [base, ...students] : students));
      }
      return measured;
    },
    release: () => programs.release(),
  };
};

const checkText = (tokens: readonly number[], { decoder }: LoadedModel): void => {
  if (tokens.length < 2) throw new UserError('A text of one token has no attention to look at: two tokens are the least.');
  if (tokens.length > decoder.contextLength)
    throw new UserError(`A text of ${tokens.length} tokens is longer than the ${decoder.contextLength} that the model was made for.`);
};

/** Students that run beside the base at once. The base runs with each group: nothing of it is held between them. */
const groupsOf = (
  adapters: readonly Adapter[],
  length: number,
  { mapBytes = 32 << 20 }: MeterSpecification,
  { decoder }: LoadedModel,
): Adapter[][] => {
  const each = decoder.headCount * lengthBucket(length) ** 2 * Float32Array.BYTES_PER_ELEMENT;
  const studentCount = Math.max(1, Math.floor(mapBytes / each) - 1);
  const groups = Array.from({ length: Math.ceil(adapters.length / studentCount) }, (_, index) =>
    adapters.slice(index * studentCount, (index + 1) * studentCount),
  );
  return groups.length === 0 ? [[]] : groups;
};

interface GroupContext {
  readonly model: LoadedModel;
  readonly adapters: readonly Adapter[];
  readonly programs: ProgramCache;
  readonly specification: MeterSpecification;
}

const measureGroup = async (
  tokens: readonly number[],
  students: readonly Adapter[],
  { model, adapters, programs, specification }: GroupContext,
): Promise<SubjectMeasures[]> => {
  const subjectCount = students.length + 1;
  const sequence = lengthBucket(tokens.length);
  const adapter = sharedShape(adapters);
  const program = await programs.get(`${subjectCount} ${sequence}`, () => {
    const graph = attentionGraph(model.decoder, { subjectCount, sequence, adapter });
    return {
      sizeBytes: peakBytes(graph),
      compile: () =>
        compileProgram(graph, {
          ...compileOptionsOf(model.frozen.inference),
          threadCount: specification.threadCount,
        }),
    };
  });
  const repeated = new Int32Array(subjectCount * sequence);
  for (let subject = 0; subject < subjectCount; subject++) repeated.set(tokens, subject * sequence);
  const outputs = await program.run({
    ...stackedAdapters(model.decoder, [undefined, ...students], adapter),
    tokens: { dataType: 'int32', shape: [subjectCount, sequence], data: repeated },
  });
  const { headCount } = model.decoder;
  const layers = Array.from({ length: model.decoder.layerCount }, (_, layer) => outputs[sumsName(layer)] as HostTensor);
  const subjects = Array.from({ length: subjectCount }, (_, subject) =>
    layers.map(({ data }) =>
      Array.from({ length: headCount }, (_unused, head) =>
        headRowSums(data as Float32Array, { subjectCount, headCount, sequence, length: tokens.length }, subject, head),
      ),
    ),
  );
  return subjects.map((own, subject) => subjectMeasures(own, subject === 0 ? undefined : subjects[0]));
};

/** [layers][heads] */
type SumsOfHeads = readonly (readonly HeadRowSums[])[];

const subjectMeasures = (layers: SumsOfHeads, base: SumsOfHeads | undefined): SubjectMeasures => {
  const table = (of: (sums: HeadRowSums, layer: number, head: number) => number): number[][] =>
    layers.map((heads, layer) => heads.map((sums, head) => of(sums, layer, head)));
  const column = (name: FirstColumn): SubjectMeasures[FirstColumn] => {
    const measured = layers.map((heads) => heads.map(name === 'with' ? measuresWithFirst : measuresWithoutFirst));
    const own = (['entropy', 'focus', 'sparsity', 'firstToken'] as const).map((measure): [StudyMeasure, number[][]] => [
      measure,
      measured.map((heads) => heads.map((head) => head[measure])),
    ]);
    const beside = (product: 'previous' | 'base', other: (layer: number, head: number) => HeadRowSums | undefined): number[][] =>
      table((sums, layer, head) => {
        const found = other(layer, head);
        return found === undefined ? Number.NaN : similarity(sums, product, found, name);
      });
    return Object.fromEntries([
      ...own,
      ['similarityToPreviousLayer', beside('previous', (layer, head) => layers[layer - 1]?.[head])],
      ...(base === undefined ? [] : [['similarityToBase', beside('base', (layer, head) => base[layer]?.[head])]]),
    ]);
  };
  return { with: column('with'), without: column('without') };
};
