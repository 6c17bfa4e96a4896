import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../src/base/errors.ts';
import { type AdapterParameters, readAdapter, writeAdapter } from '../src/weights/adapter.ts';
import { parseAdapterConfig } from '../src/weights/adapter-config.ts';
import { openSafetensors } from '../src/weights/safetensors.ts';
import { writeSafetensors } from '../src/weights/safetensors-writer.ts';
import { goldenPath } from './golden/golden-files.ts';

const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-adapter-'));
const peftFolder = goldenPath('tiny-lora', 'initial');
const readJson = async (...parts: string[]) => JSON.parse(await readFile(join(...parts), 'utf8'));
const refusal =
  (...parts: readonly string[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError, `a ${String(error)} instead of a UserError`);
    for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
    return true;
  };

const baseTensors = async () => {
  const source = await openSafetensors(goldenPath('tiny-llama', 'model.safetensors'));
  await source.close();
  return source.names;
};

/** PEFT's own adapter with other tensors or another configuration. */
const changedAdapter = async (changes: {
  readonly config?: Record<string, unknown>;
  readonly parameters?: (parameters: Record<string, AdapterParameters[string]>) => void;
}): Promise<string> => {
  const folder = await temporaryFolder();
  const { parameters } = await readAdapter(peftFolder);
  const changed = { ...parameters };
  changes.parameters?.(changed);
  const tensors = Object.entries(changed).map(
    ([name, { shape, data }]) => ({ name: `base_model.model.${name}`, shape, format: 'F32', read: () => data }) as const,
  );
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors, { format: 'pt' });
  await writeFile(
    join(folder, 'adapter_config.json'),
    JSON.stringify({ ...(await readJson(peftFolder, 'adapter_config.json')), ...changes.config }),
  );
  return folder;
};

describe("PEFT's adapter", () => {
  it('is read: rank, alpha, targets, and names without the wrappers', async () => {
    const { lora, parameters, baseModel } = await readAdapter(peftFolder, await baseTensors());
    // tiny_lora.py: LoraConfig(r=4, lora_alpha=8) on all seven projections of two layers
    assert.deepEqual(
      { ...lora, targets: [...lora.targets].sort() },
      { rank: 4, alpha: 8, dropout: 0, targets: ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj'] },
    );
    assert.equal(baseModel, 'tiny-llama');
    assert.ok(Object.hasOwn(parameters, 'model.layers.1.mlp.down_proj.lora_B.weight'));
    assert.ok(Object.keys(parameters).every((name) => /^model\.layers\.\d\.(mlp|self_attn)\.\w+_proj\.lora_[AB]\.weight$/.test(name)));
  });

  it('written again has the same tensors under the same names, bit by bit, and only keys that PEFT writes itself', async () => {
    const folder = await temporaryFolder();
    const { parameters, lora } = await readAdapter(peftFolder);
    await writeAdapter(folder, { parameters, lora, baseModel: 'tiny-llama' });
    const [ours, theirs] = await Promise.all([folder, peftFolder].map((path) => openSafetensors(join(path, 'adapter_model.safetensors'))));
    assert.ok(ours !== undefined && theirs !== undefined);
    try {
      assert.deepEqual([...ours.names].sort(), [...theirs.names].sort());
      assert.deepEqual(ours.metadata, theirs.metadata);
      for (const name of theirs.names.keys()) assert.deepEqual(await ours.read(name), await theirs.read(name), name);
    } finally {
      await Promise.all([ours.close(), theirs.close()]);
    }
    const [own, given] = [await readJson(folder, 'adapter_config.json'), await readJson(peftFolder, 'adapter_config.json')];
    for (const [key, value] of Object.entries(own)) {
      const sorted = key === 'target_modules' ? [...given[key]].sort() : given[key];
      assert.deepEqual(value, sorted, key);
    }
    assert.equal('seed' in own, false);
  });

  it('names a base model on the hub as PEFT does', async () => {
    const keysFor = async (baseModel: string) => {
      const folder = await temporaryFolder();
      await writeAdapter(folder, { ...(await readAdapter(peftFolder)), baseModel });
      const { base_model_name_or_path, revision } = await readJson(folder, 'adapter_config.json');
      return [base_model_name_or_path, revision];
    };
    assert.deepEqual(await keysFor('hub:ada/tiny@v1'), ['ada/tiny', 'v1']);
    assert.deepEqual(await keysFor('hub:ada/tiny'), ['ada/tiny', undefined]);
    assert.deepEqual(await keysFor('/models/tiny'), ['/models/tiny', undefined]);
  });

  it('may be stored in bfloat16', async () => {
    const folder = await temporaryFolder();
    const { parameters, lora } = await readAdapter(peftFolder);
    await writeAdapter(folder, { parameters, lora, baseModel: 'x', format: 'BF16' });
    const name = 'model.layers.0.mlp.up_proj.lora_A.weight';
    const [stored, given] = [(await readAdapter(folder)).parameters[name], parameters[name]];
    assert.ok(stored !== undefined && given !== undefined);
    // bfloat16 has 8 significant bits: half a unit in the last is 2^-9 of the value at most
    stored.data.forEach((value, index) => {
      assert.ok(Math.abs(value - (given.data[index] ?? Number.NaN)) <= 2 ** -8 * Math.abs(value), `${index}`);
    });
  });

  it('of rank-stabilised LoRA is the same update under another alpha: α/√r = (α·√r)/r', () => {
    const config = { peft_type: 'LORA', r: 16, lora_alpha: 8, target_modules: ['q_proj'], use_rslora: true };
    const { alpha, rank } = parseAdapterConfig(config, 'x');
    assert.equal(alpha / rank, 8 / Math.sqrt(16));
  });

  it('with a pattern for target_modules has the targets that its tensors name', async () => {
    const folder = await changedAdapter({ config: { target_modules: '.*_proj' } });
    const { lora } = await readAdapter(folder, await baseTensors());
    assert.deepEqual(lora.targets, ['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj']);
  });
});

describe('an adapter is refused', () => {
  const q = 'model.layers.0.self_attn.q_proj';
  const zeros = (...shape: [number, number]) => ({ shape, data: new Float32Array(shape[0] * shape[1]) });

  for (const [key, value] of Object.entries({
    use_dora: true,
    modules_to_save: ['lm_head'],
    rank_pattern: { q_proj: 8 },
    alpha_pattern: { q_proj: 8 },
    layers_to_transform: [0],
    trainable_token_indices: [1],
    bias: 'all',
    lora_bias: true,
    fan_in_fan_out: true,
    init_lora_weights: 'pissa',
    task_type: 'SEQ_CLS',
    a_key_of_next_year: 3,
  })) {
    it(`for ${key}: ${JSON.stringify(value)}, by that key`, async () => {
      await assert.rejects(readAdapter(await changedAdapter({ config: { [key]: value } })), refusal(key, 'does not support'));
    });
  }

  it('for another method than LoRA', async () => {
    await assert.rejects(readAdapter(await changedAdapter({ config: { peft_type: 'IA3' } })), refusal('peft_type'));
  });

  it('for a tensor that is neither A nor B', async () => {
    const folder = await changedAdapter({ parameters: (all) => Object.assign(all, { [`${q}.lora_magnitude_vector`]: zeros(1, 4) }) });
    await assert.rejects(readAdapter(folder), refusal(`${q}.lora_magnitude_vector`, 'DoRA'));
  });

  it('for an A without its B', async () => {
    const folder = await changedAdapter({
      parameters: (all) => {
        delete all[`${q}.lora_B.weight`];
      },
    });
    await assert.rejects(readAdapter(folder), refusal(`${q}.lora_A.weight`, `${q}.lora_B.weight`));
  });

  it('for tensors outside its targets, or of another rank', async () => {
    await assert.rejects(
      readAdapter(await changedAdapter({ config: { target_modules: ['q_proj'] } })),
      refusal('none of the target modules: q_proj'),
    );
    await assert.rejects(readAdapter(await changedAdapter({ config: { r: 8 } })), refusal('expected [8, in] for rank 8'));
  });

  it('for another base model: a shape, a module or a target that does not fit, by name', async () => {
    const base = await baseTensors();
    const wide = new Map([...base, [`${q}.weight`, { shape: [64, 4096], storage: 'F32' }] as const]);
    await assert.rejects(readAdapter(peftFolder, wide), refusal(`${q}.lora_A.weight`, '4096', 'another model'));
    const shallow = new Map([...base].filter(([name]) => !name.startsWith('model.layers.1.')));
    await assert.rejects(readAdapter(peftFolder, shallow), refusal('model.layers.1.', 'which the base model does not have'));
    const deep = new Map([...base, ['model.layers.2.self_attn.q_proj.weight', { shape: [64, 64], storage: 'F32' }] as const]);
    await assert.rejects(readAdapter(peftFolder, deep), refusal('no tensors for model.layers.2.self_attn.q_proj'));
  });

  it('when it is not there, or torn', async () => {
    const folder = await temporaryFolder();
    await assert.rejects(readAdapter(join(folder, 'none')), refusal('holds no adapter'));
    const torn = await changedAdapter({});
    const path = join(torn, 'adapter_model.safetensors');
    await writeFile(path, (await readFile(path)).subarray(0, -4));
    await assert.rejects(readAdapter(torn), refusal('cut short', 'base_model.model.model.layers.'));
    await writeFile(join(torn, 'adapter_config.json'), '{');
    await assert.rejects(readAdapter(torn), refusal('adapter_config.json'));
    await mkdir(join(folder, 'empty'));
    await assert.rejects(readAdapter(join(folder, 'empty')), refusal('holds no adapter'));
  });

  it('on writing as on reading', async () => {
    const lora = { rank: 4, alpha: 8, dropout: 0, targets: ['q_proj'] };
    const parameters = { [`${q}.lora_A.weight`]: zeros(4, 8) };
    await assert.rejects(writeAdapter(await temporaryFolder(), { parameters, lora, baseModel: 'x' }), refusal(`${q}.lora_B.weight`));
  });
});
