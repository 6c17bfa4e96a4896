import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { env } from 'node:process';
import { describe, it, type TestContext } from 'node:test';
import { createEngine } from '../src/engines/create-engine.ts';
import type { EngineSpecification, ParameterSet, Precision } from '../src/engines/engine.ts';
import { type ByteProduct, integerForm } from '../src/engines/integer-form.ts';
import { loadModel } from '../src/engines/loaded-model.ts';
import { assertSame, crossEntropy, rowsOf, withRandomB } from './engine-laws/suite.ts';
import { gradientsOf, relativeDistance } from './golden/compare.ts';
import { tensorOf, tinyLora, tinySpecification } from './golden/golden-files.ts';
import golden from './golden/smollm2.json' with { type: 'json' };

/** (a − 128)·b as machines without VNNI compute it: pairs of u8 × s8 products are added in 16 bits, and what is beyond saturates. */
const saturating: ByteProduct = async (form, a, b, [rows, inner, columns]) => {
  const clamp = (value: number): number => Math.min(32_767, Math.max(-32_768, value));
  const pair = form === 'int8' ? clamp(2 * a * b) : 2 * a * (b + 128);
  const offset = form === 'int8' ? 128 * b * inner : 128 * (a - 128) * inner + 128 * (b + 128) * inner;
  return new Float64Array(rows * columns).fill((inner / 2) * pair - offset);
};

describe('the form of bytes', () => {
  it('is int8 where u8 × s8 is exact, uint8 where it saturates', async () => {
    const exact: ByteProduct = async (_, a, b, [rows, inner, columns]) => new Float64Array(rows * columns).fill((a - 128) * b * inner);
    assert.equal(await integerForm(exact), 'int8');
    assert.equal(await integerForm(saturating), 'uint8');
  });

  it('is refused where no product is right', async () => {
    await assert.rejects(
      integerForm(async () => [0]),
      { name: 'UserError', message: /wrongly in every form.*precision: float32/s },
    );
  });

  it('of this machine multiplies exactly', async () => {
    assert.ok(['int8', 'uint8'].includes(await integerForm()));
  });
});

const trained = async (changes: Partial<EngineSpecification>): Promise<ParameterSet> => {
  const engine = await createEngine({ ...tinySpecification({ parameters: tinyLora, layout: 'thread' }), ...changes });
  try {
    await engine.load(withRandomB(await engine.parameters()));
    return await gradientsOf(engine, rowsOf([40, 25, 33, 60], 9), crossEntropy);
  } finally {
    await engine.release();
  }
};

const cosine = (a: ParameterSet, b: ParameterSet): number => {
  let [product, squareA, squareB] = [0, 0, 0];
  for (const name of Object.keys(a)) {
    const [left, right] = [tensorOf(a, name), tensorOf(b, name)];
    left.forEach((value, index) => {
      product += value * (right[index] as number);
      squareA += value ** 2;
      squareB += (right[index] as number) ** 2;
    });
  }
  return product / Math.sqrt(squareA * squareB);
};

describe('training with precision int8 on tiny-llama', () => {
  it('gives the same gradients with uint8 weights, the form of machines where u8 × s8 saturates', async () => {
    const [signed, unsigned] = [
      await trained({ precision: 'int8', byteForm: 'int8' }),
      await trained({ precision: 'int8', byteForm: 'uint8' }),
    ];
    for (const name of Object.keys(signed)) {
      const distance = relativeDistance(tensorOf(unsigned, name), tensorOf(signed, name));
      assert.ok(distance < 1e-6, `${name}: ${distance}`);
    }
  });

  it('gives gradients like those of float32, and not the very same', async () => {
    const [exact, rounded] = [await trained({}), await trained({ precision: 'int8' })];
    const likeness = cosine(exact, rounded);
    assert.ok(likeness > 0.99 && likeness < 1 - 1e-9, `cosine ${likeness}`);
  });

  it('gives the same bytes with two runners', async () => {
    assertSame(await trained({ precision: 'int8', runnerCount: 2, threadCount: 2 }), await trained({ precision: 'int8' }), 'gradients');
  });

  it('measures in float32 unless told otherwise', async () => {
    const lossIn = async (changes: Partial<EngineSpecification>): Promise<number> => {
      const engine = await createEngine({ ...tinySpecification({ parameters: tinyLora, layout: 'thread' }), ...changes });
      try {
        const [sums] = await engine.forward(rowsOf([50], 4), crossEntropy);
        return sums?.sum ?? Number.NaN;
      } finally {
        await engine.release();
      }
    };
    const exact = await lossIn({});
    assert.equal(await lossIn({ precision: 'int8' }), exact);
    const rounded = await lossIn({ inferencePrecision: 'int8' });
    assert.notEqual(rounded, exact);
    assert.ok(Math.abs(rounded / exact - 1) < 0.01, `${rounded} beside ${exact}`);
  });

  it('is refused where nothing is frozen, and on devices without such products', async () => {
    const make = (changes: Partial<EngineSpecification>) =>
      createEngine({ ...tinySpecification({ layout: 'thread' }), precision: 'int8', ...changes });
    await assert.rejects(make({ parameters: { kind: 'all' } }), { name: 'UserError', message: /none is frozen/ });
    await assert.rejects(loadModel({ ...tinySpecification({ parameters: tinyLora }), precision: 'int8', device: 'webgpu' }), {
      name: 'UserError',
      message: /take device cpu/,
    });
  });
});

const modelFolder = join(env.RETORT_MODELS ?? '', 'smollm2-135m-instruct');
const skip =
  env.RETORT_MODELS === undefined
    ? 'RETORT_MODELS, the folder of real weights, is not set'
    : !existsSync(join(modelFolder, golden.file)) && `${join(modelFolder, golden.file)} is not there`;

it('SmolLM2: gradients in 8 bits point where those in float32 do', { skip }, async (test: TestContext) => {
  const batches = [0, 2].map((first) => golden.rows.slice(first, first + 2));
  const gradientsIn = async (precision: Precision): Promise<ParameterSet[]> => {
    const engine = await createEngine({
      modelFolder,
      initialisation: { from: 'folder' },
      parameters: { kind: 'lora', ...golden.lora, dropout: 0, seed: 1 },
      precision,
      device: 'cpu',
      layout: 'thread',
    });
    try {
      await engine.load(withRandomB(await engine.parameters(), 0.02));
      const gradients: ParameterSet[] = [];
      for (const rows of batches) gradients.push(await gradientsOf(engine, rows, crossEntropy));
      return gradients;
    } finally {
      await engine.release();
    }
  };
  const [exact, rounded] = [await gradientsIn('float32'), await gradientsIn('int8')];
  const likenesses = exact.map((gradients, index) => cosine(gradients, rounded[index] ?? {}));
  test.diagnostic(`cosines ${likenesses.map((value) => value.toFixed(4)).join(', ')}`);
  // One byte where inputs have outliers gives less than 0.96 here, and so do a head with its mean and one scale for a whole tensor
  for (const likeness of likenesses) assert.ok(likeness > 0.97, `cosine ${likeness}`);
});
