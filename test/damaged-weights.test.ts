import assert from 'node:assert/strict';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../src/base/errors.ts';
import { openByteFile } from '../src/weights/byte-file.ts';
import { readGgufHeader } from '../src/weights/gguf-file.ts';
import { openModelFolder } from '../src/weights/model-folder.ts';
import { openSafetensors } from '../src/weights/safetensors.ts';
import { readSafetensorsHeader } from '../src/weights/safetensors-header.ts';
import type { TensorSource } from '../src/weights/tensor-source.ts';
import { goldenPath } from './golden/golden-files.ts';

interface Format {
  readonly name: string;
  readonly fileName: string;
  readonly intact: Buffer;
  readonly open: (path: string) => Promise<TensorSource>;
  /** Where each tensor's bytes lie, under the names that the message may use. */
  readonly ranges: ReadonlyMap<string, { readonly begin: number; readonly end: number }>;
}

const header = async <T extends { entries: Format['ranges'] }>(
  path: string,
  read: (file: Awaited<ReturnType<typeof openByteFile>>) => Promise<T>,
) => {
  const file = await openByteFile(path);
  try {
    return (await read(file)).entries;
  } finally {
    await file.close();
  }
};

const safetensorsPath = goldenPath('tiny-llama', 'model.safetensors');
const ggufPath = goldenPath('gguf', 'llama.gguf');
const formats: readonly Format[] = [
  {
    name: 'safetensors',
    fileName: 'model.safetensors',
    intact: await readFile(safetensorsPath),
    open: openSafetensors,
    ranges: await header(safetensorsPath, readSafetensorsHeader),
  },
  {
    name: 'GGUF',
    fileName: 'model.gguf',
    intact: await readFile(ggufPath),
    // With configuration and tokenizer from the same file, as a user would open it.
    open: async (path) => {
      const model = await openModelFolder(path);
      try {
        await model.tokenizerFiles();
        return model.tensors;
      } catch (error) {
        await model.tensors.close();
        throw error;
      }
    },
    ranges: await header(ggufPath, readGgufHeader),
  },
];

/** Opens and reads everything; what is thrown comes back. */
const thrownBy = async (format: Format, bytes: Uint8Array, path: string): Promise<unknown> => {
  await writeFile(path, bytes);
  try {
    const source = await format.open(path);
    try {
      for (const name of source.names.keys()) await source.read(name);
    } finally {
      await source.close();
    }
  } catch (error) {
    return error;
  }
  return undefined;
};

for (const format of formats) {
  describe(`a damaged ${format.name} file`, async () => {
    const path = join(await mkdtemp(join(tmpdir(), 'retort-damaged-')), format.fileName);

    it('is read when it is not damaged', async () => {
      assert.equal(await thrownBy(format, format.intact, path), undefined);
    });

    it('cut anywhere is a UserError that names the file, and the tensor when one was cut', () =>
      fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: format.intact.length - 1 }), async (length) => {
          const thrown = await thrownBy(format, format.intact.subarray(0, length), path);
          assert.ok(thrown instanceof UserError, `cut to ${length} bytes: ${String(thrown)}`);
          assert.ok(thrown.message.includes(path), thrown.message);
          const dataBegin = Math.min(...[...format.ranges.values()].map(({ begin }) => begin));
          if (length < dataBegin) return;
          // Padding may lie before the cut; the first tensor that ends after it is the one.
          const cut = [...format.ranges].find(([, { end }]) => end > length)?.[0] ?? '';
          assert.ok(thrown.message.includes(cut), `cut to ${length} bytes, inside ${cut}: ${thrown.message}`);
        }),
        { numRuns: 150 },
      ));

    it('with any bytes overwritten is read or refused, and never crashes', () =>
      fc.assert(
        fc.asyncProperty(
          // Mostly in the header, where everything is decided.
          fc.oneof(fc.integer({ min: 0, max: 600 }), fc.integer({ min: 0, max: format.intact.length - 9 })),
          fc.uint8Array({ minLength: 1, maxLength: 8 }),
          async (position, patch) => {
            const bytes = Buffer.from(format.intact);
            bytes.set(patch, position);
            const thrown = await thrownBy(format, bytes, path);
            assert.ok(thrown === undefined || thrown instanceof UserError, thrown instanceof Error ? thrown.stack : String(thrown));
          },
        ),
        { numRuns: 150 },
      ));

    it('with bytes appended: safetensors says so, GGUF may be padded', async () => {
      const thrown = await thrownBy(format, Buffer.concat([format.intact, Buffer.alloc(3)]), path);
      assert.equal(thrown instanceof UserError, format.name === 'safetensors');
    });
  });
}
