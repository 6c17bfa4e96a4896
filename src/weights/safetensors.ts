import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { messageOf, nearestName, UserError } from '../base/errors.ts';
import { type ByteFile, fingerprinter, openByteFile } from './byte-file.ts';
import { floatFormats, isFloatFormatName } from './float-formats.ts';
import { readSafetensorsHeader, type SafetensorsEntry, type SafetensorsHeader } from './safetensors-header.ts';
import type { TensorSource } from './tensor-source.ts';

/** A TensorSource over one safetensors file; `metadata` is the header's `__metadata__`. */
export interface SafetensorsSource extends TensorSource {
  readonly metadata: Readonly<Record<string, string>>;
}

interface Shard {
  readonly file: ByteFile;
  readonly header: SafetensorsHeader;
}

/** Opens one safetensors file. The header is read and checked; tensors are read when asked for. */
export const openSafetensors = async (path: string): Promise<SafetensorsSource> => {
  const shard = await openShard(path);
  const located = new Map([...shard.header.entries].map(([name, entry]) => [name, { file: shard.file, entry }]));
  return { ...sourceOf([shard], located), metadata: shard.header.metadata };
};

/** Opens the shards that a `model.safetensors.index.json` lists; they lie beside it. */
export const openShardedSafetensors = async (indexPath: string): Promise<TensorSource> => {
  const weightMap = await readShardIndex(indexPath);
  const shards = new Map<string, Shard>();
  try {
    for (const fileName of [...new Set(Object.values(weightMap))].sort()) {
      shards.set(fileName, await openShard(join(dirname(indexPath), fileName)));
    }
    const located = new Map<string, Located>();
    for (const [name, fileName] of Object.entries(weightMap)) {
      const shard = shards.get(fileName);
      const entry = shard?.header.entries.get(name);
      if (shard === undefined || entry === undefined) {
        throw new UserError(`${indexPath} says that tensor ${name} is in ${fileName}, but it is not there. Index and shards do not fit.`);
      }
      located.set(name, { file: shard.file, entry });
    }
    return sourceOf([...shards.values()], located);
  } catch (error) {
    await Promise.all([...shards.values()].map(({ file }) => file.close()));
    throw error;
  }
};

interface Located {
  readonly file: ByteFile;
  readonly entry: SafetensorsEntry;
}

const sourceOf = (shards: readonly Shard[], located: ReadonlyMap<string, Located>): TensorSource => {
  const files = shards.map(({ file }) => file);
  return {
    names: new Map([...located].map(([name, { entry }]) => [name, { shape: entry.shape, storage: entry.dtype }])),
    fingerprint: fingerprinter(files),
    read: (name) => readTensor(located, name, files[0]?.path ?? 'the weights'),
    close: async () => {
      await Promise.all(files.map((file) => file.close()));
    },
  };
};

const readTensor = async (located: ReadonlyMap<string, Located>, name: string, where: string): Promise<Float32Array<ArrayBuffer>> => {
  const found = located.get(name);
  if (found === undefined) throw missingTensor(name, where, [...located.keys()]);
  const { file, entry } = found;
  if (!isFloatFormatName(entry.dtype)) {
    throw new UserError(`Tensor ${name} of ${file.path} has type ${entry.dtype}. Supported: ${Object.keys(floatFormats).join(', ')}.`);
  }
  const bytes = new Uint8Array(entry.end - entry.begin);
  await file.readInto(bytes, entry.begin, `tensor ${name}`);
  return floatFormats[entry.dtype].decode(bytes);
};

/** The error for a tensor that is asked for and not there. */
export const missingTensor = (name: string, where: string, known: readonly string[]): UserError => {
  const nearest = nearestName(name, known);
  return new UserError(
    `No tensor ${name} in ${where} (${known.length} tensors).${nearest === undefined ? '' : ` The nearest name there is ${nearest}.`} ` +
      'Do these weights belong to this config.json?',
  );
};

const openShard = async (path: string): Promise<Shard> => {
  const file = await openByteFile(path);
  try {
    return { file, header: await readSafetensorsHeader(file) };
  } catch (error) {
    await file.close();
    throw error;
  }
};

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** The `weight_map` of a model.safetensors.index.json: tensor name → shard, which lies beside the index. */
export const readShardIndex = async (path: string): Promise<Record<string, string>> => {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new UserError(`Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  const parsed = indexSchema.safeParse(content);
  if (!parsed.success) throw new UserError(`${path} is no index of safetensors shards: ${z.prettifyError(parsed.error)}`);
  for (const fileName of Object.values(parsed.data.weight_map)) {
    if (basename(fileName) !== fileName) throw new UserError(`${path} points to ${fileName}; shards must lie beside their index.`);
  }
  return parsed.data.weight_map;
};
