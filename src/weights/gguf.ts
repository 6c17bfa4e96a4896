import { UserError } from '../base/errors.ts';
import { type ByteFile, fingerprinter, openByteFile } from './byte-file.ts';
import { architectureOf, type GgufArchitecture, huggingFaceName, ropeFrequenciesName } from './gguf-architectures.ts';
import { type GgufEntry, type GgufHeader, metadataReader, readGgufHeader, required } from './gguf-file.ts';
import { missingTensor } from './safetensors.ts';
import type { TensorSource } from './tensor-source.ts';

interface Located {
  readonly ggufName: string;
  readonly entry: GgufEntry;
  /** Heads whose rows are interleaved in the file; 0: the rows are as Hugging Face has them. */
  readonly interleavedHeadCount: number;
}

/** Opens a GGUF file as Hugging Face's tensors: names, row order of q and k, float32. `known` spares reading the header again. */
export const openGguf = async (path: string, known?: GgufHeader): Promise<TensorSource> => {
  const file = await openByteFile(path);
  try {
    const header = known ?? (await readGgufHeader(file));
    const located = locate(header, architectureOf(header));
    return {
      names: new Map([...located].map(([name, { entry }]) => [name, { shape: entry.shape, storage: entry.type.name }])),
      fingerprint: fingerprinter([file]),
      read: (name) => readTensor(file, located, name),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
};

/** The metadata and tensor table of a GGUF file, without its tensors. */
export const readGgufFileHeader = async (path: string): Promise<GgufHeader> => {
  const file = await openByteFile(path);
  try {
    return await readGgufHeader(file);
  } finally {
    await file.close();
  }
};

const locate = (header: GgufHeader, architecture: GgufArchitecture): Map<string, Located> => {
  const read = metadataReader(header);
  const splitCount = read.number('split.count') ?? 1;
  if (splitCount > 1) {
    throw new UserError(
      `${header.path} is one of ${splitCount} parts of a model. Join them with llama-gguf-split --merge, then give the one file.`,
    );
  }
  const queryHeads = () =>
    required(read.number(`${architecture.name}.attention.head_count`), `${architecture.name}.attention.head_count`, header.path);
  const headCounts: Readonly<Record<string, () => number>> = {
    attn_q: queryHeads,
    attn_k: () => read.number(`${architecture.name}.attention.head_count_kv`) ?? queryHeads(),
  };
  const located = new Map<string, Located>();
  for (const [ggufName, entry] of header.entries) {
    if (ggufName === ropeFrequenciesName) continue;
    const name = huggingFaceName(architecture, ggufName);
    if (name === undefined) {
      throw new UserError(
        `${header.path}: tensor ${ggufName} is unknown in the architecture ${architecture.name}. This variant is not supported.`,
      );
    }
    const headCount = architecture.permutesQueriesAndKeys ? headCounts[ggufName.split('.').at(-2) ?? ''] : undefined;
    located.set(name, { ggufName, entry, interleavedHeadCount: headCount?.() ?? 0 });
  }
  return located;
};

const readTensor = async (file: ByteFile, located: ReadonlyMap<string, Located>, name: string): Promise<Float32Array<ArrayBuffer>> => {
  const found = located.get(name);
  if (found === undefined) throw missingTensor(name, file.path, [...located.keys()]);
  const { entry, ggufName, interleavedHeadCount } = found;
  const bytes = new Uint8Array(entry.end - entry.begin);
  await file.readInto(bytes, entry.begin, `tensor ${name} (${ggufName})`);
  const values = entry.type.dequantise(bytes);
  if (interleavedHeadCount === 0) return values;
  const rowCount = entry.shape[0] ?? 0;
  if (rowCount % (2 * interleavedHeadCount) !== 0) {
    throw new UserError(`Tensor ${name} of ${file.path} has ${rowCount} rows, which do not divide into ${interleavedHeadCount} heads.`);
  }
  return separateHalves(values, rowCount, interleavedHeadCount);
};

/**
 * Undoes llama.cpp's row order of q and k. Row h·d + 2i + s of the file (head h of width d, pair i, half s) is row h·d + s·d/2 + i of
 * Hugging Face: there RoPE pairs a row with the one half a head away, in the file with its neighbour.
 */
export const separateHalves = (values: Float32Array, rowCount: number, headCount: number): Float32Array<ArrayBuffer> => {
  const width = values.length / rowCount;
  const headRows = rowCount / headCount;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rowCount; row++) {
    const within = row % headRows;
    const target = row - within + (within % 2) * (headRows / 2) + Math.floor(within / 2);
    result.set(values.subarray(row * width, (row + 1) * width), target * width);
  }
  return result;
};
