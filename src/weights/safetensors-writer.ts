import { randomUUID } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InternalError, UserError } from '../base/errors.ts';
import { diskErrorOf, makeFolder, syncFolder } from '../base/folders.ts';
import { elementCount } from '../graph/tensor-type.ts';
import { type FloatFormatName, floatFormats } from './float-formats.ts';

/** A tensor to be written. `read` is called once, when its turn comes, so that one tensor at a time is in memory. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  readonly format: FloatFormatName;
  readonly read: () => Float32Array | Promise<Float32Array>;
}

/**
 * Writes a safetensors file whole or not at all: a draft beside it, synced, renamed. Tensors are stored in the order given; `metadata` is
 * the header's `__metadata__`. A finite value that the format cannot hold is a `UserError` that names the tensor.
 */
export const writeSafetensors = async (
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> => {
  await makeFolder(dirname(path));
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}.${randomUUID().slice(0, 8)}.draft`);
  try {
    const handle = await open(draft, 'wx');
    try {
      await writeAll(handle, headerOf(tensors, metadata));
      for (const tensor of tensors) await writeAll(handle, await encode(tensor, path));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(draft, { force: true });
    throw diskErrorOf(error, path);
  }
};

const headerOf = (tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array => {
  let offset = 0;
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set('__metadata__', metadata);
  for (const { name, shape, format } of tensors) {
    if (header.has(name)) throw new InternalError(`two tensors are called ${name}`);
    const end = offset + elementCount(shape) * floatFormats[format].byteWidth;
    header.set(name, { dtype: format, shape, data_offsets: [offset, end] });
    offset = end;
  }
  const text = JSON.stringify(Object.fromEntries(header));
  // Padded with spaces so that the tensors begin at a multiple of 8 bytes, as the reference implementation does.
  const bytes = new TextEncoder().encode(text);
  const paddedLength = Math.ceil(bytes.length / 8) * 8;
  const result = new Uint8Array(8 + paddedLength).fill(0x20);
  new DataView(result.buffer).setBigUint64(0, BigInt(paddedLength), true);
  result.set(bytes, 8);
  return result;
};

const encode = async ({ name, shape, format, read }: TensorToWrite, path: string): Promise<Uint8Array> => {
  const values = await read();
  if (values.length !== elementCount(shape)) {
    throw new InternalError(`tensor ${name} has ${values.length} numbers, which are not [${shape.join(', ')}]`);
  }
  const largest = largestFinite[format];
  const tooLarge = values.find((value) => Math.abs(value) >= largest && Number.isFinite(value));
  if (tooLarge !== undefined) {
    throw new UserError(`Tensor ${name} holds ${tooLarge}, which is too large for ${format}. Write ${path} as bfloat16 or float32.`);
  }
  return floatFormats[format].encode(values);
};

/** From here on a finite float32 rounds to infinity: halfway between the largest number and the next power of two. */
const largestFinite: Readonly<Record<FloatFormatName, number>> = {
  F32: Number.POSITIVE_INFINITY,
  F16: 65520,
  BF16: 2 ** 128 * (1 - 2 ** -9),
};

const writeAll = async (handle: FileHandle, bytes: Uint8Array): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(64 * 1024 * 1024, bytes.length - done));
    done += bytesWritten;
  }
};
