import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { createEngine } from '../src/engines/create-engine.ts';
import { engineMaps, mapMeasurer, studyAttention } from '../src/inspection/attention-study.ts';
import { studyModel } from '../src/inspection/inspect-run.ts';
import { decoderOf } from '../src/models/families.ts';
import { readModelConfiguration } from '../src/weights/model-folder.ts';
import { serve } from './protocol.ts';

// A study of attention, timed from opening the model to the last interval: measured in the program that makes the maps, or of whole maps.

const optionsSchema = z.object({ modelFolder: z.string(), threadCount: z.number() });
const requestSchema = z.object({ mode: z.enum(['sums', 'maps']), prompts: z.array(z.array(z.number())) });

await serve(async (given) => {
  const { modelFolder, threadCount } = optionsSchema.parse(given);
  const { layerCount, headCount } = decoderOf((await readModelConfiguration(modelFolder)).config);
  const studyMaps = async (prompts: readonly { readonly id: string; readonly tokens: number[] }[]): Promise<void> => {
    const engine = await createEngine({
      modelFolder,
      initialisation: { from: 'folder' },
      parameters: { kind: 'none' },
      precision: 'float32',
      device: 'cpu',
      layout: 'worker',
      threadCount,
    });
    try {
      const measurers = [mapMeasurer([{ name: 'base', maps: engineMaps(engine, { layerCount, headCount }) }])];
      await studyAttention({ prompts, subjects: ['base'], measurers });
    } finally {
      await engine.release();
    }
  };
  return {
    measure: async (content) => {
      const { mode, prompts } = requestSchema.parse(content);
      const texts = prompts.map((tokens, index) => ({ id: String(index), tokens }));
      const begin = performance.now();
      if (mode === 'maps') await studyMaps(texts);
      else await studyModel({ modelFolder, adapters: [], prompts: texts, threadCount });
      const seconds = (performance.now() - begin) / 1000;
      return { seconds, tokenCount: prompts.reduce((sum, { length }) => sum + length, 0) };
    },
    release: async () => undefined,
  };
});
