import { basename, dirname } from 'node:path';
import { InternalError, UserError } from '../base/errors.ts';
import { float32, type HostTensor, sameShape } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { decoderOf } from '../models/families.ts';
import type { Weights } from '../onnx/model.ts';
import { openModelFolder, readModelConfiguration } from '../weights/model-folder.ts';
import { prepareWeights } from '../weights/prepared-weights.ts';
import type { EngineSpecification, ParameterSet } from './engine.ts';
import { initialAdapter, initialWeights } from './initial-parameters.ts';

/** A model ready to be compiled: what is frozen goes into programs, what is trained goes in at every run. */
export interface LoadedModel {
  readonly decoder: Decoder;
  readonly frozen: Weights;
  /** Where frozen weights by reference lie. */
  readonly weightsFolder?: string;
  readonly trainable: ParameterSet;
  /** What `trainable` would be under another seed. */
  readonly redrawn: (seed: number) => ParameterSet;
}

/** Below this a model's weights are held in memory; above, they lie in a file that every program maps. */
const smallModelBytes = 64 * 2 ** 20;

/** Reads (or draws) a model's weights and checks each against the shape that its config asks for. */
export const loadModel = async (specification: EngineSpecification): Promise<LoadedModel> => {
  const { parameters, initialisation } = specification;
  if (initialisation.from === 'random') {
    const decoder = decoderOf((await readModelConfiguration(specification.modelFolder)).config);
    return withSelection(decoder, initialWeights(decoder, initialisation.seed), parameters, (seed) => initialWeights(decoder, seed));
  }
  const folder = await openModelFolder(specification.modelFolder);
  try {
    const decoder = decoderOf(folder.config);
    checkWeights(decoder, folder.tensors.names, specification.modelFolder);
    const sizeBytes = [...decoder.parameters.values()].reduce((sum, shape) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
    if (parameters.kind === 'all' || sizeBytes < smallModelBytes) {
      const weights: Record<string, ParameterSet[string]> = {};
      for (const [name, shape] of decoder.parameters) weights[name] = { shape, data: await folder.tensors.read(name) };
      return withSelection(decoder, weights, parameters, () => weights);
    }
    const prepared = await prepareWeights(folder.tensors);
    const frozen: Weights = new Map(
      [...decoder.parameters.keys()].map((name) => {
        const place = prepared.tensors.get(name);
        if (place === undefined) throw new InternalError(`the converted weights in ${prepared.file} hold no "${name}"`);
        return [name, { location: basename(prepared.file), offset: place.offset, byteLength: place.byteLength }];
      }),
    );
    return {
      decoder,
      frozen,
      weightsFolder: dirname(prepared.file),
      ...adapterOf(decoder, parameters),
    };
  } finally {
    await folder.tensors.close();
  }
};

/** Divides weights that are in memory into what is trained and what is frozen. */
const withSelection = (
  decoder: Decoder,
  weights: ParameterSet,
  selection: EngineSpecification['parameters'],
  redrawnWeights: (seed: number) => ParameterSet,
): LoadedModel => {
  if (selection.kind === 'all') return { decoder, frozen: new Map(), trainable: weights, redrawn: redrawnWeights };
  const frozen = new Map(Object.entries(weights).map(([name, parameter]) => [name, hostParameter(parameter)]));
  return { decoder, frozen, ...adapterOf(decoder, selection) };
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
