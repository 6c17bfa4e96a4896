import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { UserError } from '../src/base/errors.ts';
import { type Adapter, readAdapter } from '../src/weights/adapter.ts';
import { type ModelFolder, openModelFolder, readTokenizerFiles } from '../src/weights/model-folder.ts';
import { writeMerged, writeModel } from '../src/weights/model-writer.ts';
import { goldenPath } from './golden/golden-files.ts';

const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-merged-'));
const golden = z
  .object({ weights: z.record(z.string(), z.object({ changed: z.boolean(), norm: z.number(), lastRow: z.array(z.number()) })) })
  .parse(JSON.parse(await readFile(goldenPath('merged-weights.json'), 'utf8'))).weights;

const withModel = async <T>(path: string, use: (model: ModelFolder) => Promise<T>): Promise<T> => {
  const model = await openModelFolder(path);
  try {
    return await use(model);
  } finally {
    await model.tensors.close();
  }
};

const tinyLlama = goldenPath('tiny-llama');
const peftAdapter = () => readAdapter(goldenPath('tiny-lora', 'initial'));
const scaled = (adapter: Adapter, factor: number): Adapter => ({
  ...adapter,
  parameters: Object.fromEntries(
    Object.entries(adapter.parameters).map(([name, { shape, data }]) => [
      name,
      { shape, data: name.endsWith('lora_B.weight') ? data.map((value) => value * factor) : data },
    ]),
  ),
});

describe('merging an adapter', () => {
  it('gives the weights of merge_and_unload of PEFT', async () => {
    const folder = await temporaryFolder();
    const report = await withModel(tinyLlama, async (base) => writeMerged(folder, base, await peftAdapter(), { format: 'F32' }));
    assert.equal(report.mergedCount, Object.values(golden).filter(({ changed }) => changed).length);
    assert.ok(report.changedShare > 0.99, `${report.changedShare}`);
    await withModel(folder, async (merged) => {
      // tiny-llama is tied: PEFT's state names the embedding twice, the file has it once.
      assert.deepEqual(
        [...merged.tensors.names.keys()].sort(),
        Object.keys(golden)
          .filter((name) => name !== 'lm_head.weight')
          .sort(),
      );
      for (const name of merged.tensors.names.keys()) {
        const { norm = Number.NaN, lastRow = [] } = golden[name] ?? {};
        const values = await merged.tensors.read(name);
        const ownNorm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
        assert.ok(Math.abs(ownNorm / norm - 1) < 1e-6, `${name}: norm ${ownNorm}, expected ${norm}`);
        const shape = merged.tensors.names.get(name)?.shape ?? [];
        const row = values.subarray(values.length - (shape.at(-1) ?? 0)).subarray(0, 16);
        // PEFT multiplies and adds in float32, retort in float64: a few roundings of numbers around 1 apart
        row.forEach((value, index) => {
          assert.ok(Math.abs(value - (lastRow[index] ?? Number.NaN)) < 1e-6, `${name}[${index}]: ${value}, expected ${lastRow[index]}`);
        });
      }
    });
  });

  it('leaves a folder that opens as a model, in the type that was asked for', async () => {
    const folder = await temporaryFolder();
    await withModel(tinyLlama, async (base) => writeMerged(folder, base, await peftAdapter()));
    await withModel(folder, async ({ tensors, config }) => {
      assert.deepEqual(new Set([...tensors.names.values()].map(({ storage }) => storage)), new Set(['BF16']));
      const given = JSON.parse(await readFile(join(tinyLlama, 'config.json'), 'utf8'));
      const changed = 'dtype' in given ? { dtype: 'bfloat16' } : {};
      assert.deepEqual(config, { ...given, ...changed, torch_dtype: 'bfloat16' });
    });
  });

  it('from a GGUF brings the configuration and the tokenizer that were inside', async () => {
    const folder = await temporaryFolder();
    const source = goldenPath('gguf', 'llama.gguf');
    const module = 'model.layers.1.self_attn.q_proj';
    const adapter: Pick<Adapter, 'parameters' | 'lora'> = {
      lora: { rank: 1, alpha: 1, dropout: 0, targets: ['q_proj'] },
      parameters: {
        [`${module}.lora_A.weight`]: { shape: [1, 32], data: new Float32Array(32).fill(1) },
        [`${module}.lora_B.weight`]: { shape: [32, 1], data: new Float32Array(32).fill(1) },
      },
    };
    await withModel(source, async (base) => {
      await writeMerged(folder, base, adapter, { format: 'F32' });
      await withModel(folder, async (merged) => {
        assert.deepEqual(merged.config, { ...Object(base.config), torch_dtype: 'float32' });
        assert.deepEqual(merged.generationConfig, base.generationConfig);
        const before = await base.tensors.read(`${module}.weight`);
        // A and B all ones, alpha = rank = 1: every weight is one larger
        assert.deepEqual(
          await merged.tensors.read(`${module}.weight`),
          before.map((value) => value + 1),
        );
        const other = 'model.layers.0.self_attn.q_proj.weight';
        assert.deepEqual(await merged.tensors.read(other), await base.tensors.read(other));
      });
    });
    assert.deepEqual(await readTokenizerFiles(folder), await readTokenizerFiles(source));
  });

  it('that changes nothing is an error and leaves nothing', async () => {
    const folder = await temporaryFolder();
    const adapter = await peftAdapter();
    await withModel(tinyLlama, async (base) => {
      const isError = (pattern: RegExp) => (error: unknown) => error instanceof UserError && pattern.test(error.message);
      await assert.rejects(writeMerged(folder, base, scaled(adapter, 0)), isError(/changes no weight: its B is zero/));
      await assert.rejects(writeMerged(folder, base, scaled(adapter, 1e-9)), isError(/too small for BF16; use float32/));
    });
    assert.deepEqual(await readdir(folder), []);
  });

  it('of another model is an error that names the weight', async () => {
    await withModel(goldenPath('gguf', 'llama.gguf'), async (base) => {
      await assert.rejects(
        writeMerged(await temporaryFolder(), base, await peftAdapter()),
        (error) => error instanceof UserError && /_proj.* is \[\d+, \d+\]\. Is the adapter for another model/.test(error.message),
      );
    });
  });
});

it('a whole model is written with the configuration of the folder it comes from', async () => {
  const folder = await temporaryFolder();
  await withModel(goldenPath('gguf', 'qwen2.gguf'), async (from) => {
    const names = [...from.tensors.names].map(async ([name, { shape }]) => [name, { shape, data: await from.tensors.read(name) }] as const);
    await writeModel(folder, Object.fromEntries(await Promise.all(names)), from, { format: 'F32' });
    await withModel(folder, async (written) => {
      assert.deepEqual(new Set(written.tensors.names.keys()), new Set(from.tensors.names.keys()));
      for (const name of from.tensors.names.keys()) assert.deepEqual(await written.tensors.read(name), await from.tensors.read(name), name);
    });
  });
  assert.deepEqual((await readdir(folder)).sort(), [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
});
