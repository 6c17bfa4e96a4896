import { basename, dirname } from 'node:path';
import { InternalError, UserError } from '../base/errors.ts';
import { elementCount, float32, type HostTensor, sameShape } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { decoderOf } from '../models/families.ts';
import type { ByteForm } from '../nn/int8-linear.ts';
import type { Weights } from '../onnx/model.ts';
import type { CompileOptions } from '../runtime/onnx-program.ts';
import { int8Layout } from '../weights/int8-weights.ts';
import { type ModelFolder, openModelFolder, readModelConfiguration } from '../weights/model-folder.ts';
import { floatLayout, type PreparedLayout, prepareWeights } from '../weights/prepared-weights.ts';
import type { TensorSource } from '../weights/tensor-source.ts';
import type { EngineSpecification, ParameterSet } from './engine.ts';
import { initialAdapter, initialWeights } from './initial-parameters.ts';
import { integerForm } from './integer-form.ts';
import type { GraphModel } from './step-graphs.ts';

/** A model ready to be compiled: what is frozen goes into programs, what is trained goes in at every run. */
export interface LoadedModel {
  readonly decoder: Decoder;
  /** What programs that train bake in, and what all others do. */
  readonly frozen: Readonly<Record<Purpose, FrozenWeights>>;
  readonly trainable: ParameterSet;
  /** What `trainable` would be under another seed. */
  readonly redrawn: (seed: number) => ParameterSet;
}

export type Purpose = 'training' | 'inference';

export interface FrozenWeights {
  readonly weights: Weights;
  /** Where weights by reference lie. */
  readonly folder?: string;
  /** How the linear layers' bytes are signed; absent: they are float32. */
  readonly byteForm?: ByteForm | undefined;
}

/**
 * What programs with these weights baked in are compiled with. A packed copy per program would multiply the model's memory: programs share the
 * mapped file instead, unless `prepack`.
 */
export const compileOptionsOf = ({ weights, folder }: FrozenWeights, prepack = false): CompileOptions => ({
  weights,
  ...(folder !== undefined && { weightsFolder: folder, prepack }),
});

/** What the programs of a model and purpose have in common. */
export const graphModelOf = ({ decoder, frozen }: LoadedModel, { parameters }: EngineSpecification, purpose: Purpose): GraphModel => ({
  decoder,
  lora: parameters.kind === 'lora' ? parameters : undefined,
  byteForm: frozen[purpose].byteForm,
});

/** What weights take, wherever they lie. */
export const weightBytes = (weights: Weights): number =>
  weights.values().reduce((sum, weight) => sum + ('location' in weight ? weight.byteLength : weight.data.byteLength), 0);

/** Below this a model's weights are held in memory; above, they lie in a file that every program maps. */
const smallModelBytes = 64 * 2 ** 20;

/** Reads (or draws) a model's weights and checks each against the shape that its config asks for. */
export const loadModel = async (specification: EngineSpecification): Promise<LoadedModel> => {
  const { parameters, initialisation, precision, inferencePrecision = 'float32' } = specification;
  const purposes = { training: precision, inference: inferencePrecision };
  if (parameters.kind === 'all' && Object.values(purposes).some((purpose) => purpose !== 'float32')) {
    throw new UserError(
      'Every parameter is trained, so none is frozen, and only frozen ones can be held in 8 bits: take precision float32.',
    );
  }
  if (specification.device !== 'cpu' && Object.values(purposes).includes('int8')) {
    throw new UserError(
      `Precision int8 is computed on the processor alone: take device cpu, or precision float32 on ${specification.device}.`,
    );
  }
  const folder = initialisation.from === 'folder' ? await openModelFolder(specification.modelFolder) : undefined;
  try {
    const decoder = decoderOf((folder ?? (await readModelConfiguration(specification.modelFolder))).config);
    if (folder !== undefined) checkWeights(decoder, folder.tensors.names, specification.modelFolder);
    const sizeBytes = [...decoder.parameters.values()].reduce((sum, shape) => sum + 4 * elementCount(shape), 0);
    const bytes = Object.values(purposes).includes('int8') ? (specification.byteForm ?? (await integerForm())) : undefined;
    const forms = { training: precision === 'int8' ? bytes : undefined, inference: inferencePrecision === 'int8' ? bytes : undefined };
    if (folder !== undefined && parameters.kind !== 'all' && sizeBytes >= smallModelBytes) {
      const frozen = await byPurpose(forms, (form) => preparedWeights(decoder, folder.tensors, form));
      return { decoder, frozen, ...adapterOf(decoder, parameters) };
    }
    const drawn = (seed: number): ParameterSet => initialWeights(decoder, seed);
    const weights = initialisation.from === 'random' ? drawn(initialisation.seed) : await readAll(decoder, (folder as ModelFolder).tensors);
    if (parameters.kind === 'all') {
      const nothing: FrozenWeights = { weights: new Map() };
      const redrawn = initialisation.from === 'random' ? drawn : () => weights;
      return { decoder, frozen: { training: nothing, inference: nothing }, trainable: weights, redrawn };
    }
    return { decoder, frozen: await byPurpose(forms, (form) => heldWeights(decoder, weights, form)), ...adapterOf(decoder, parameters) };
  } finally {
    await folder?.tensors.close();
  }
};

/** The form of the linear layers' bytes; undefined: float32. */
type Form = ByteForm | undefined;

/** One set of weights for both purposes where they want the same form. */
const byPurpose = async (
  { training, inference }: Readonly<Record<Purpose, Form>>,
  make: (form: Form) => Promise<FrozenWeights>,
): Promise<LoadedModel['frozen']> => {
  const first = await make(training);
  return { training: first, inference: training === inference ? first : await make(inference) };
};

/** The layout of the tensors that programs of a form ask for. */
const layoutOf = ({ parameters, linearGroups, linearModules, headName }: Decoder, form: Form): PreparedLayout => {
  const names = new Map([...parameters].map(([name, shape]) => [name, { shape, storage: 'F32' }]));
  return form === undefined ? floatLayout({ names }) : int8Layout({ names }, linearGroups, linearModules, headName, form);
};

/** Weights in the file of the cache, by reference. */
const preparedWeights = async (decoder: Decoder, tensors: TensorSource, form: Form): Promise<FrozenWeights> => {
  const layout = layoutOf(decoder, form);
  const prepared = await prepareWeights(tensors, form === undefined ? {} : { layout });
  const places = layout.parts.flatMap((part) =>
    part.tensors.map(({ name }) => {
      const place = prepared.tensors.get(name);
      if (place === undefined) throw new InternalError(`the converted weights in ${prepared.file} hold no "${name}"`);
      return [name, { location: basename(prepared.file), offset: place.offset, byteLength: place.byteLength }] as const;
    }),
  );
  return { weights: new Map(places), folder: dirname(prepared.file), byteForm: form };
};

/** Weights in memory. */
const heldWeights = async (decoder: Decoder, weights: ParameterSet, form: Form): Promise<FrozenWeights> => {
  const read = async (name: string): Promise<Float32Array> => {
    const weight = weights[name];
    if (weight === undefined) throw new InternalError(`the weights in memory hold no "${name}"`);
    return weight.data;
  };
  const held: [string, HostTensor][] = [];
  for (const part of layoutOf(decoder, form).parts) {
    const made = await part.make(read);
    part.tensors.forEach(({ name, ...type }, index) => held.push([name, { ...type, data: made[index] as HostTensor['data'] }]));
  }
  return { weights: new Map(held), byteForm: form };
};

const readAll = async (decoder: Decoder, tensors: TensorSource): Promise<ParameterSet> => {
  const weights: Record<string, ParameterSet[string]> = {};
  for (const [name, shape] of decoder.parameters) weights[name] = { shape, data: await tensors.read(name) };
  return weights;
};

const adapterOf = (decoder: Decoder, selection: EngineSpecification['parameters']): Pick<LoadedModel, 'trainable' | 'redrawn'> => {
  const redrawn = (seed: number): ParameterSet => (selection.kind === 'lora' ? initialAdapter(decoder, { ...selection, seed }) : {});
  return { trainable: redrawn(selection.kind === 'lora' ? selection.seed : 0), redrawn };
};

export const hostParameter = ({ shape, data }: ParameterSet[string]): HostTensor => ({ ...float32(...shape), data });

/** Every parameter that the config asks for is in the files, in its shape; else one UserError that lists what is not. */
const checkWeights = (decoder: Decoder, stored: ReadonlyMap<string, { readonly shape: readonly number[] }>, where: string): void => {
  const problems = [...decoder.parameters].flatMap(([name, shape]) => {
    const found = stored.get(name);
    if (found === undefined) return [`  ${name}: missing`];
    return sameShape(found.shape, shape) ? [] : [`  ${name}: [${found.shape.join(', ')}], config.json asks for [${shape.join(', ')}]`];
  });
  if (problems.length === 0) return;
  const more = problems.length > 10 ? `\n  … and ${problems.length - 10} more` : '';
  throw new UserError(`The weights in ${where} do not fit their config.json:\n${problems.slice(0, 10).join('\n')}${more}`);
};
