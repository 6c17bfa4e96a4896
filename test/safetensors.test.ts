import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../src/base/errors.ts';
import { type FloatFormatName, floatFormats } from '../src/weights/float-formats.ts';
import { openSafetensors, openShardedSafetensors } from '../src/weights/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../src/weights/safetensors-writer.ts';
import { goldenTensors, tensorOf } from './golden/golden-files.ts';

const temporaryFolder = () => mkdtemp(join(tmpdir(), 'retort-safetensors-'));
const namesUserError =
  (...parts: readonly (string | RegExp)[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError, `a ${String(error)} instead of a UserError`);
    for (const part of parts) assert.match(error.message, typeof part === 'string' ? new RegExp(part.replaceAll('.', '\\.')) : part);
    return true;
  };

/** A file by hand: any header, then any number of bytes. */
const rawFile = async (header: string | object, dataBytes = 0): Promise<string> => {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const path = join(await temporaryFolder(), 'model.safetensors');
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
};

const write = (path: string, tensors: Record<string, readonly [FloatFormatName, readonly number[], readonly number[]]>, metadata = {}) =>
  writeSafetensors(
    path,
    Object.entries(tensors).map(
      ([name, [format, shape, values]]): TensorToWrite => ({ name, shape, format, read: () => Float32Array.from(values) }),
    ),
    metadata,
  );

describe('16-bit floats', () => {
  // IEEE 754-2019 table 3.5 and its limits; bfloat16: the upper half of binary32
  const halves: readonly [number, number][] = [
    [0x0000, 0],
    [0x8000, -0],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3c00, 1],
    [0xc000, -2],
    [0x3555, 0.333251953125],
    [0x7bff, 65504],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
  ];

  it('float16 has the values of its definition, both ways', () => {
    for (const [bits, value] of halves) {
      assert.ok(Object.is(floatFormats.F16.decode(Uint8Array.of(bits & 255, bits >> 8))[0], value), bits.toString(16));
      assert.deepEqual([...floatFormats.F16.encode(Float32Array.of(value))], [bits & 255, bits >> 8], String(value));
    }
  });

  it('float16: DataView, where the engine has it, agrees on all 65,536', () => {
    const all = new Uint8Array(Uint16Array.from({ length: 65536 }, (_, bits) => bits).buffer);
    const view: DataView & { getFloat16?: (offset: number, littleEndian: boolean) => number } = new DataView(all.buffer);
    if (view.getFloat16 === undefined) return;
    const decoded = floatFormats.F16.decode(all);
    for (let bits = 0; bits < 65536; bits++) assert.ok(Object.is(decoded[bits], view.getFloat16(2 * bits, true)), bits.toString(16));
  });

  for (const name of ['F16', 'BF16'] as const) {
    it(`${name}: every number that is not NaN comes back as it was`, () => {
      const bits = Uint16Array.from({ length: 65536 }, (_, index) => index);
      const decoded = floatFormats[name].decode(new Uint8Array(bits.buffer));
      const back = new Uint16Array(floatFormats[name].encode(decoded).buffer);
      for (let index = 0; index < 65536; index++) {
        if (!Number.isNaN(decoded[index])) assert.equal(back[index], index);
        else assert.ok(Number.isNaN(floatFormats[name].decode(new Uint8Array(Uint16Array.of(back[index] ?? 0).buffer))[0]));
      }
    });

    it(`${name}: rounds to the nearest, and from halfway to the even one`, () => {
      const { encode, decode } = floatFormats[name];
      const numbers = fc.float({ min: Math.fround(-60000), max: Math.fround(60000), noNaN: true });
      fc.assert(
        fc.property(numbers, (value) => {
          const [bits = 0] = new Uint16Array(encode(Float32Array.of(value)).buffer);
          const rounded = decode(new Uint8Array(Uint16Array.of(bits).buffer))[0] ?? Number.NaN;
          for (const other of [bits - 1, bits + 1].filter((near) => (near & 0x7fff) < 0x7c00 && near >= 0 && near < 65536)) {
            const alternative = decode(new Uint8Array(Uint16Array.of(other).buffer))[0] ?? Number.NaN;
            if (Math.sign(alternative) * Math.sign(rounded) < 0) continue;
            const [own, its] = [Math.abs(rounded - value), Math.abs(alternative - value)];
            assert.ok(own < its || (own === its && bits % 2 === 0), `${value} → ${rounded}, not ${alternative}`);
          }
        }),
      );
    });
  }

  it('bfloat16 of 1 + 2^-8 is 1, of 1 + 3·2^-8 is 1 + 2^-6: ties to even', () => {
    const { encode, decode } = floatFormats.BF16;
    assert.deepEqual([...decode(encode(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8)))], [1, 1 + 2 ** -6]);
  });
});

describe('a file of the Python package safetensors', async () => {
  const tensors = await goldenTensors('float-formats.safetensors');
  for (const [name, format] of [
    ['float16', 'F16'],
    ['bfloat16', 'BF16'],
  ] as const) {
    it(`holds the numbers in ${name} that PyTorch reads there, to the sign of zero`, () => {
      const [read, expected] = [tensorOf(tensors, name), tensorOf(tensors, `${name}.read`)];
      assert.equal(read.length, expected.length);
      read.forEach((value, index) => {
        assert.ok(Object.is(value, expected[index]), `${index}: ${value}, expected ${expected[index]}`);
      });
    });

    it(`has been rounded to ${name} as we round`, () => {
      const rounded = floatFormats[format].decode(floatFormats[format].encode(tensorOf(tensors, 'values')));
      const expected = tensorOf(tensors, `${name}.read`);
      rounded.forEach((value, index) => {
        assert.ok(Object.is(value, expected[index]), `${tensorOf(tensors, 'values')[index]}: ${value}, expected ${expected[index]}`);
      });
    });
  }
});

describe('a safetensors file', () => {
  it('that was written is read: names, shapes, types, metadata, numbers', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await write(
      path,
      {
        'b.weight': ['F32', [2, 3], [1, 2, 3, 4, 5, 6]],
        'a.bias': ['BF16', [2], [0.5, -3]],
        c: ['F16', [], [7]],
        empty: ['F32', [0, 4], []],
      },
      { format: 'pt' },
    );
    const source = await openSafetensors(path);
    try {
      assert.deepEqual(source.metadata, { format: 'pt' });
      assert.deepEqual(source.names.get('b.weight'), { shape: [2, 3], storage: 'F32' });
      assert.deepEqual(source.names.get('c'), { shape: [], storage: 'F16' });
      assert.deepEqual([...(await source.read('b.weight'))], [1, 2, 3, 4, 5, 6]);
      assert.deepEqual([...(await source.read('a.bias'))], [0.5, -3]);
      assert.deepEqual([...(await source.read('c'))], [7]);
      assert.deepEqual([...(await source.read('empty'))], []);
      await assert.rejects(source.read('b.weigth'), namesUserError('b.weigth', 'The nearest name there is b.weight', path));
    } finally {
      await source.close();
    }
    assert.deepEqual(await readdir(join(path, '..')), ['model.safetensors'], 'no draft is left');
  });

  it('begins its data at a multiple of 8 bytes, as the reference implementation does', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await write(path, { abc: ['F32', [1], [1]] });
    assert.equal((await readFile(path)).readBigUInt64LE() % 8n, 0n);
  });

  it('changes its fingerprint with any byte', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    const prints: string[] = [];
    for (const value of [1, 2, 1]) {
      await write(path, { a: ['F32', [1], [value]] });
      const source = await openSafetensors(path);
      prints.push(await source.fingerprint());
      await source.close();
    }
    assert.equal(prints[0], prints[2]);
    assert.notEqual(prints[0], prints[1]);
  });

  it('does not take a number that its format cannot hold', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await assert.rejects(write(path, { 'big.weight': ['F16', [2], [1, 70000]] }), namesUserError('big.weight', '70000', 'F16'));
    assert.deepEqual(await readdir(join(path, '..')), [], 'neither the file nor a draft is left');
    await write(path, { 'big.weight': ['F16', [2], [65519, Number.POSITIVE_INFINITY]] });
  });
});

describe('a bad safetensors file', () => {
  const entry = (dtype: string, shape: unknown, begin: unknown, end: unknown) => ({ dtype, shape, data_offsets: [begin, end] });
  const bad: readonly [string, string | object, number, readonly (string | RegExp)[]][] = [
    ['with an absurd header length', '', 0, []],
    ['whose header is not JSON', '{"a":', 0, ['not JSON']],
    ['whose header is a list', '[]', 0, ['not a JSON object']],
    [
      'with a tensor twice',
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
      ['tensor a twice'],
    ],
    ['with an unknown type', { a: entry('F33', [1], 0, 4) }, 4, ['Tensor a', 'F33']],
    ['with a type from a prototype', { a: entry('toString', [1], 0, 4) }, 4, ['Tensor a', 'toString']],
    ['with a negative size', { a: entry('F32', [-1], 0, 4) }, 4, ['Tensor a', 'shape']],
    ['with sizes that do not fit the bytes', { a: entry('F32', [3], 0, 8) }, 8, ['Tensor a', 'takes 12 bytes, but the header gives it 8']],
    ['with offsets the wrong way round', { a: entry('F32', [1], 4, 0) }, 4, ['Tensor a', 'data_offsets']],
    ['with overlapping tensors', { a: entry('F32', [2], 0, 8), b: entry('F32', [1], 4, 8) }, 8, ['Tensor b', 'overlaps']],
    ['with a hole', { a: entry('F32', [1], 0, 4), b: entry('F32', [1], 8, 12) }, 12, ['hole of 4 bytes before tensor b']],
    ['cut inside a tensor', { a: entry('F32', [1], 0, 4), b: entry('F32', [2], 4, 12) }, 8, ['cut short: tensor b']],
    ['with bytes that belong to no tensor', { a: entry('F32', [1], 0, 4) }, 5, ['1 bytes after its last tensor']],
    ['with metadata that are no strings', { __metadata__: { a: 1 } }, 0, ['__metadata__']],
  ];
  for (const [what, header, dataBytes, parts] of bad) {
    it(`${what} is refused by name`, async () => {
      const path = await rawFile(header, dataBytes);
      if (header === '') await writeFile(path, Buffer.alloc(16, 0xff));
      await assert.rejects(openSafetensors(path), namesUserError(path, ...parts));
    });
  }

  it('that is a Git LFS pointer is refused', async () => {
    const path = join(await temporaryFolder(), 'model.safetensors');
    await writeFile(path, 'version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n');
    await assert.rejects(openSafetensors(path), namesUserError(path, 'Git LFS'));
  });

  it('that is not there, or is a folder, is refused', async () => {
    const folder = await temporaryFolder();
    await assert.rejects(openSafetensors(join(folder, 'none.safetensors')), namesUserError('none.safetensors'));
    await assert.rejects(openSafetensors(folder), namesUserError(folder));
  });

  it('of integers opens, and reading them names tensor and type', async () => {
    const path = await rawFile({ ids: entry('I64', [1], 0, 8) }, 8);
    const source = await openSafetensors(path);
    await assert.rejects(source.read('ids'), namesUserError('Tensor ids', 'I64', path));
    await source.close();
  });
});

describe('shards', () => {
  const shards = async () => {
    const folder = await temporaryFolder();
    await write(join(folder, 'model-00001-of-00002.safetensors'), { a: ['F32', [2], [1, 2]] });
    await write(join(folder, 'model-00002-of-00002.safetensors'), { b: ['BF16', [1], [3]] });
    const index = join(folder, 'model.safetensors.index.json');
    const writeIndex = (weightMap: unknown) => writeFile(index, JSON.stringify({ metadata: { total_size: 10 }, weight_map: weightMap }));
    await writeIndex({ a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' });
    return { folder, index, writeIndex };
  };

  it('are read as one', async () => {
    const { index } = await shards();
    const source = await openShardedSafetensors(index);
    assert.deepEqual([...source.names.keys()], ['a', 'b']);
    assert.deepEqual([[...(await source.read('a'))], [...(await source.read('b'))]], [[1, 2], [3]]);
    await source.close();
  });

  it('that miss a tensor or lie elsewhere are refused', async () => {
    const { index, writeIndex } = await shards();
    await writeIndex({ a: 'model-00002-of-00002.safetensors' });
    await assert.rejects(openShardedSafetensors(index), namesUserError('tensor a', 'model-00002-of-00002.safetensors'));
    await writeIndex({ a: 'model-00003-of-00002.safetensors' });
    await assert.rejects(openShardedSafetensors(index), namesUserError('model-00003-of-00002.safetensors'));
    await writeIndex({ a: '../outside.safetensors' });
    await assert.rejects(openShardedSafetensors(index), namesUserError('../outside.safetensors', 'beside'));
    await writeIndex(['a']);
    await assert.rejects(openShardedSafetensors(index), namesUserError('weight_map'));
    await writeFile(index, '{');
    await assert.rejects(openShardedSafetensors(index), namesUserError(index));
  });
});
