import { createHash } from 'node:crypto';
import { copyFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InternalError, UserError } from '../base/errors.ts';
import { forEverybody, writeJsonAtomic } from '../base/folders.ts';
import type { Adapter, AdapterParameters } from './adapter.ts';
import { type FloatFormatName, floatFormats } from './float-formats.ts';
import type { ModelFolder } from './model-folder.ts';
import { openSafetensors } from './safetensors.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors-writer.ts';

export interface WriteModelOptions {
  /** BF16 when absent, as most models are published. */
  readonly format?: FloatFormatName;
}

/**
 * Writes a whole model to a folder: the parameters, and the configuration and tokenizer of the folder it comes from. What a full
 * fine-tuning (`parameters: all`) leaves behind.
 */
export const writeModel = async (
  folder: string,
  parameters: AdapterParameters,
  from: Pick<ModelFolder, 'folder' | 'config' | 'generationConfig' | 'tokenizerFiles'>,
  options: WriteModelOptions = {},
): Promise<void> => {
  const format = options.format ?? 'BF16';
  const tensors = Object.keys(parameters)
    .sort()
    .flatMap((name): TensorToWrite[] => {
      const parameter = parameters[name];
      return parameter === undefined ? [] : [{ name, shape: parameter.shape, format, read: () => parameter.data }];
    });
  await writeSafetensors(join(folder, weightsName), tensors, { format: 'pt' });
  await writeConfiguration(folder, from, format);
};

/** What a merge did, for the record beside it. */
export interface MergeReport {
  /** The adapted weights, all of which were read back and compared. */
  readonly mergedCount: number;
  /** Of all their numbers, how many are another number than the base's in the written format. */
  readonly changedShare: number;
}

/**
 * Writes base + adapter as a model of its own: W + (alpha / r) · B · A, in double precision, rounded once to the written format. Afterwards
 * the file is read back: each merged weight must be what was computed, and the merge must have changed something. One weight is in memory
 * at a time.
 */
export const writeMerged = async (
  folder: string,
  source: ModelFolder,
  adapter: Pick<Adapter, 'parameters' | 'lora'>,
  options: WriteModelOptions = {},
): Promise<MergeReport> => {
  const format = options.format ?? 'BF16';
  const adapted = adaptedModules(adapter.parameters, source);
  const written = new Map<string, MergedWeight>();
  const tensors = [...source.tensors.names]
    .filter(([, { storage }]) => !/^(?:[IU]\d+|BOOL)$/.test(storage))
    .map(([name, { shape }]): TensorToWrite => {
      const factors = adapted.get(name);
      const read = async () => {
        const weight = await source.tensors.read(name);
        if (factors === undefined) return weight;
        const merged = mergedWeight(weight, factors, adapter.lora.alpha / adapter.lora.rank);
        written.set(name, compareEncoded(weight, merged, format));
        return merged;
      };
      return { name, shape, format, read };
    });
  const path = join(folder, weightsName);
  await writeSafetensors(path, tensors, { format: 'pt' });
  try {
    await checkWritten(path, written, format);
    const report = reportOf(written);
    if (report.changedShare === 0) {
      const why = isZero(adapter) ? 'its B is zero, so it was not trained' : `its update is too small for ${format}; use float32`;
      throw new UserError(`Merging the adapter into ${source.folder} changes no weight: ${why}. Nothing was written.`);
    }
    await writeConfiguration(folder, source, format);
    return report;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
};

const weightsName = 'model.safetensors';

interface Factors {
  /** [rank, in] */
  readonly a: Float32Array;
  /** [out, rank] */
  readonly b: Float32Array;
  readonly rank: number;
}

interface MergedWeight {
  readonly sha256: string;
  readonly changedCount: number;
  readonly count: number;
}

/** The factors of each adapted weight by its name. One that the base does not have, or has in another shape, is an error. */
const adaptedModules = (parameters: AdapterParameters, source: ModelFolder): Map<string, Factors> => {
  const result = new Map<string, Factors>();
  for (const [name, a] of Object.entries(parameters)) {
    if (!name.endsWith('.lora_A.weight')) continue;
    const module = name.slice(0, -'.lora_A.weight'.length);
    const b = parameters[`${module}.lora_B.weight`];
    const weight = source.tensors.names.get(`${module}.weight`);
    const [rank, width] = a.shape;
    if (b === undefined || rank === undefined || width === undefined) throw new InternalError(`the adapter of ${module} is not whole`);
    if (weight === undefined) {
      // With tied embeddings lm_head is the embedding; changing it would change the embedding too.
      throw new UserError(`The adapter has ${name}, but ${source.folder} has no ${module}.weight to merge it into.`);
    }
    if (weight.shape[0] !== b.shape[0] || weight.shape[1] !== width || b.shape[1] !== rank) {
      throw new UserError(
        `The adapter of ${module} makes [${b.shape[0]}, ${width}], but ${module}.weight of ${source.folder} is ` +
          `[${weight.shape.join(', ')}]. Is the adapter for another model?`,
      );
    }
    result.set(`${module}.weight`, { a: a.data, b: b.data, rank });
  }
  return result;
};

/** W' = W + scale · B · A, row by row in double precision. */
const mergedWeight = (weight: Float32Array, { a, b, rank }: Factors, scale: number): Float32Array => {
  const width = a.length / rank;
  const rowCount = b.length / rank;
  const result = new Float32Array(weight.length);
  const row = new Float64Array(width);
  for (let out = 0; out < rowCount; out++) {
    row.set(weight.subarray(out * width, (out + 1) * width));
    for (let k = 0; k < rank; k++) {
      const factor = scale * (b[out * rank + k] ?? 0);
      if (factor === 0) continue;
      for (let i = 0; i < width; i++) row[i] = (row[i] ?? 0) + factor * (a[k * width + i] ?? 0);
    }
    result.set(row, out * width);
  }
  return result;
};

const compareEncoded = (weight: Float32Array, merged: Float32Array, format: FloatFormatName): MergedWeight => {
  const { byteWidth, encode, decode } = floatFormats[format];
  const after = encode(merged);
  const roundedBefore = decode(encode(weight));
  const roundedAfter = decode(after);
  let changedCount = 0;
  for (let i = 0; i < roundedAfter.length; i++) changedCount += roundedAfter[i] === roundedBefore[i] ? 0 : 1;
  return { sha256: createHash('sha256').update(after).digest('hex'), changedCount, count: after.length / byteWidth };
};

const checkWritten = async (path: string, written: ReadonlyMap<string, MergedWeight>, format: FloatFormatName): Promise<void> => {
  const file = await openSafetensors(path);
  try {
    for (const [name, { sha256 }] of written) {
      const bytes = floatFormats[format].encode(await file.read(name));
      if (createHash('sha256').update(bytes).digest('hex') !== sha256) {
        throw new UserError(`Tensor ${name} of ${path} reads back as something else than was written. Is the disk damaged?`);
      }
    }
  } finally {
    await file.close();
  }
};

const reportOf = (written: ReadonlyMap<string, MergedWeight>): MergeReport => {
  const sum = (pick: (weight: MergedWeight) => number) => [...written.values()].reduce((total, weight) => total + pick(weight), 0);
  const count = sum((weight) => weight.count);
  return { mergedCount: written.size, changedShare: count === 0 ? 0 : sum((weight) => weight.changedCount) / count };
};

const isZero = ({ parameters }: Pick<Adapter, 'parameters'>): boolean =>
  Object.entries(parameters).every(([name, { data }]) => !name.endsWith('.lora_B.weight') || data.every((value) => value === 0));

/** Files that belong to a model and are copied as they are, where the source has them. */
const copiedFiles: readonly string[] = [
  ...['chat_template.jinja', 'special_tokens_map.json', 'added_tokens.json', 'vocab.json', 'merges.txt', 'tokenizer.model'],
  ...['tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'LICENSE', 'LICENSE.txt'],
];

const torchNames: Readonly<Record<FloatFormatName, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

/** Copies what lies beside the source's weights, makes what a GGUF had inside, and writes config.json last: then the folder is a model. */
const writeConfiguration = async (
  folder: string,
  from: Pick<ModelFolder, 'folder' | 'config' | 'generationConfig' | 'tokenizerFiles'>,
  format: FloatFormatName,
): Promise<void> => {
  const present = await readdir(from.folder);
  for (const name of copiedFiles.filter((file) => present.includes(file))) await copyFile(join(from.folder, name), join(folder, name));
  const hasTokenizerInside = !present.includes('tokenizer.json') && present.some((name) => name.endsWith('.gguf'));
  if (hasTokenizerInside) {
    const { tokenizerJson, tokenizerConfigJson } = await from.tokenizerFiles();
    await writeJsonAtomic(join(folder, 'tokenizer.json'), tokenizerJson, { mode: forEverybody });
    await writeJsonAtomic(join(folder, 'tokenizer_config.json'), tokenizerConfigJson, { mode: forEverybody });
  }
  if (!present.includes('generation_config.json') && from.generationConfig !== undefined) {
    await writeJsonAtomic(join(folder, 'generation_config.json'), from.generationConfig, { mode: forEverybody });
  }
  // `dtype` is the newer name of `torch_dtype`; a config that has both keeps both in agreement.
  const config = { ...(from.config instanceof Object ? from.config : {}), torch_dtype: torchNames[format] };
  await writeJsonAtomic(join(folder, 'config.json'), 'dtype' in config ? { ...config, dtype: torchNames[format] } : config, {
    mode: forEverybody,
  });
};
