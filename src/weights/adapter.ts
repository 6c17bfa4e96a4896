import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';
import { forEverybody, hasCode, writeJsonAtomic } from '../base/folders.ts';
import { type AdapterShape, adapterConfigOf, parseAdapterConfig } from './adapter-config.ts';
import type { FloatFormatName } from './float-formats.ts';
import { openSafetensors } from './safetensors.ts';
import { writeSafetensors } from './safetensors-writer.ts';
import type { StoredTensor } from './tensor-source.ts';

/** Parameters by name, row-major float32: `model.layers.0.self_attn.q_proj.lora_A.weight` [rank, in], `….lora_B.weight` [out, rank]. */
export type AdapterParameters = Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>;

export interface Adapter {
  readonly parameters: AdapterParameters;
  readonly lora: AdapterShape;
  /** The base model as its maker named it: a hub id or a folder. */
  readonly baseModel: string | undefined;
}

export interface WriteAdapterOptions {
  readonly parameters: AdapterParameters;
  readonly lora: AdapterShape;
  /** Written as base_model_name_or_path: the hub id or folder of the model that the adapter is for. */
  readonly baseModel: string;
  /** F32 when absent. */
  readonly format?: FloatFormatName;
}

const weightsName = 'adapter_model.safetensors';
const configName = 'adapter_config.json';
/** PEFT wraps the model twice, and its names say so. */
const prefix = 'base_model.model.';

/** Writes an adapter as PEFT does: adapter_model.safetensors, then adapter_config.json. Its folder is complete when the latter is there. */
export const writeAdapter = async (folder: string, options: WriteAdapterOptions): Promise<void> => {
  const names = Object.keys(options.parameters).sort();
  checkAdapterNames(names, options.lora, `the adapter for ${folder}`);
  checkShapes(options.parameters, options.lora, `the adapter for ${folder}`);
  const tensors = names.flatMap((name) => {
    const parameter = options.parameters[name];
    return parameter === undefined
      ? []
      : [{ name: prefix + name, shape: parameter.shape, format: options.format ?? 'F32', read: () => parameter.data }];
  });
  await writeSafetensors(join(folder, weightsName), tensors, { format: 'pt' });
  await writeJsonAtomic(join(folder, configName), adapterConfigOf(options.lora, options.baseModel), { mode: forEverybody });
};

/**
 * Reads a PEFT LoRA adapter. With `base`, the names and shapes of the model it is for, an adapter that does not fit is a `UserError` that
 * names the tensor; so is, always, anything in it that retort does not compute.
 */
export const readAdapter = async (folder: string, base?: ReadonlyMap<string, Pick<StoredTensor, 'shape'>>): Promise<Adapter> => {
  const configPath = join(folder, configName);
  const content = await readConfig(configPath, folder);
  const { targetPattern, ...shape } = parseAdapterConfig(content, configPath);
  const path = join(folder, weightsName);
  const source = await openAdapterWeights(path, folder);
  try {
    const parameters: Record<string, AdapterParameters[string]> = {};
    for (const [name, { shape: stored }] of source.names) {
      if (!name.startsWith(prefix)) throw new UserError(`Tensor ${name} of ${path} does not begin with ${prefix}: not written by PEFT?`);
      parameters[name.slice(prefix.length)] = { shape: stored, data: await source.read(name) };
    }
    const names = Object.keys(parameters);
    // A pattern instead of a list: the tensors say which modules it meant.
    const targets = targetPattern === undefined ? shape.targets : [...new Set(names.map(moduleTail))].sort();
    const lora = { ...shape, targets };
    checkAdapterNames(names, lora, path);
    checkShapes(parameters, lora, path);
    if (base !== undefined) checkFits(parameters, lora, base, path);
    return { parameters, lora, baseModel: baseModelOf(content) };
  } finally {
    await source.close();
  }
};

const openAdapterWeights = async (path: string, folder: string) => {
  const present = await readdir(folder);
  if (!present.includes(weightsName)) {
    // An adapter_model.bin is a Python pickle, which can run any code when it is read.
    const advice = present.includes('adapter_model.bin') ? ' Load it with PEFT and save it again: then it is safetensors.' : '';
    throw new UserError(`${folder} has ${configName}, but no ${weightsName}.${advice}`);
  }
  return openSafetensors(path);
};

const readConfig = async (path: string, folder: string): Promise<unknown> => {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) {
      throw new UserError(`${folder} holds no adapter: ${configName} and ${weightsName} are expected there.`, { cause: error });
    }
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
};

const baseModelOf = (content: unknown): string | undefined =>
  content instanceof Object && 'base_model_name_or_path' in content && typeof content.base_model_name_or_path === 'string'
    ? content.base_model_name_or_path
    : undefined;

const parsedName = (name: string) => /^(?<module>.+)\.lora_(?<side>[AB])\.weight$/.exec(name)?.groups;

const moduleTail = (name: string): string => parsedName(name)?.module?.split('.').at(-1) ?? name;

/** Every tensor is the A or the B of a target, and every A has its B. */
const checkAdapterNames = (names: readonly string[], lora: AdapterShape, where: string): void => {
  if (names.length === 0) throw new UserError(`There is no tensor in ${where}.`);
  const present = new Set(names);
  for (const name of names) {
    const parts = parsedName(name);
    if (parts === undefined) {
      throw new UserError(
        `Tensor ${name} in ${where} is no lora_A.weight or lora_B.weight. DoRA, embeddings and modules_to_save are not supported.`,
      );
    }
    const { module = '', side = '' } = parts;
    const other = `${module}.lora_${side === 'A' ? 'B' : 'A'}.weight`;
    if (!present.has(other)) throw new UserError(`${where} has ${name}, but not ${other}.`);
    if (!isTarget(module, lora.targets)) {
      throw new UserError(`Tensor ${name} in ${where} belongs to none of the target modules: ${lora.targets.join(', ')}.`);
    }
  }
};

/** PEFT's rule for a list (tuners_utils.py, check_target_module_exists): the whole name, or its end after a dot. */
const isTarget = (module: string, targets: readonly string[]): boolean =>
  targets.some((target) => module === target || module.endsWith(`.${target}`));

const checkShapes = (parameters: AdapterParameters, { rank }: AdapterShape, where: string): void => {
  for (const [name, { shape }] of Object.entries(parameters)) {
    const side = parsedName(name)?.side;
    if (shape.length !== 2 || shape[side === 'A' ? 0 : 1] !== rank) {
      const expected = side === 'A' ? `[${rank}, in]` : `[out, ${rank}]`;
      throw new UserError(`Tensor ${name} in ${where} is [${shape.join(', ')}], expected ${expected} for rank ${rank}.`);
    }
  }
};

/** Every adapted module is in the base with these sizes, and every target in the base is adapted. */
const checkFits = (
  parameters: AdapterParameters,
  lora: AdapterShape,
  base: ReadonlyMap<string, Pick<StoredTensor, 'shape'>>,
  where: string,
): void => {
  for (const [name, { shape }] of Object.entries(parameters)) {
    const { module = '', side } = parsedName(name) ?? {};
    const weight = base.get(`${module}.weight`);
    if (weight === undefined) throw new UserError(`Tensor ${name} in ${where} adapts ${module}, which the base model does not have.`);
    const [out, width] = weight.shape;
    if (side === 'A' ? shape[1] !== width : shape[0] !== out) {
      throw new UserError(
        `Tensor ${name} in ${where} is [${shape.join(', ')}], but ${module}.weight of the base model is [${weight.shape.join(', ')}]. ` +
          'Is the adapter for another model?',
      );
    }
  }
  for (const name of base.keys()) {
    const module = name.replace(/\.weight$/, '');
    if (name.endsWith('.weight') && isTarget(module, lora.targets) && !Object.hasOwn(parameters, `${module}.lora_A.weight`)) {
      throw new UserError(`${where} has no tensors for ${module}, which is among its target modules: ${lora.targets.join(', ')}.`);
    }
  }
};
