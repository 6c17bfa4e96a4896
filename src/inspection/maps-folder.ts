import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf, UserError } from '../base/errors.ts';
import type { AttentionPrompt, MapSource } from './attention-study.ts';
import { readNpy } from './npy.ts';

/** Maps of other people's models: a file a prompt, `NAME.npy`, of shape [layers, heads, length, length]. */
export interface MapsFolder {
  readonly prompts: readonly AttentionPrompt[];
  readonly maps: MapSource;
}

/** Opens a folder of .npy files, one a prompt, in the order of their names. Several subjects want the same names in each folder. */
export const openMapsFolder = async (folder: string): Promise<MapsFolder> => {
  const names = await readdir(folder).catch((error: unknown) => {
    throw new UserError(`Cannot read the folder of maps ${folder}: ${messageOf(error)}`);
  });
  const files = names.filter((name) => name.endsWith('.npy')).sort();
  if (files.length === 0) throw new UserError(`${folder} holds no .npy files: expected one a prompt, [layers, heads, length, length].`);
  return {
    prompts: await Promise.all(
      files.map(async (file) => {
        const { shape } = await readMaps(join(folder, file));
        return { id: file, tokens: new Array<number>(shape[2]).fill(0) };
      }),
    ),
    maps: async function* ({ id }) {
      const { shape, data } = await readMaps(join(folder, id));
      const [layerCount, headCount, length] = shape;
      const size = headCount * length * length;
      for (let layer = 0; layer < layerCount; layer++) yield { headCount, length, data: data.subarray(layer * size, (layer + 1) * size) };
    },
  };
};

const readMaps = async (path: string): Promise<{ shape: readonly [number, number, number]; data: Float32Array }> => {
  const { shape, data } = await readNpy(path);
  const [layers, heads, queries, keys] = shape;
  if (shape.length !== 4 || layers === undefined || heads === undefined || queries === undefined || queries !== keys || queries < 2) {
    throw new UserError(`${path}: expected [layers, heads, length, length] with two tokens or more, got [${shape.join(', ')}].`);
  }
  return { shape: [layers, heads, queries], data };
};
