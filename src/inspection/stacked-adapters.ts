import type { HostTensor } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { isAdapted, loraNames } from '../nn/scope.ts';
import type { Adapter } from '../weights/adapter.ts';

/** What adapters of several students come to when they lie side by side: one rank and one list of targets for all. */
export const sharedShape = (adapters: readonly Adapter[]): { readonly rank: number; readonly targets: readonly string[] } => ({
  rank: Math.max(1, ...adapters.map(({ lora }) => lora.rank)),
  targets: [...new Set(adapters.flatMap(({ lora }) => lora.targets))].sort(),
});

/**
 * The adapters of a batch, one a subject, as inputs of its program: A [subjects, rank, inputs], B [subjects, outputs, rank], each B times its
 * adapter's alpha / rank. Ranks and modules that an adapter does not have are zeros, and the base (undefined) is zeros throughout.
 */
export const stackedAdapters = (
  decoder: Decoder,
  subjects: readonly (Adapter | undefined)[],
  { rank, targets }: ReturnType<typeof sharedShape>,
): Record<string, HostTensor> => {
  const set = new Set(targets);
  const stacks: Record<string, HostTensor> = {};
  for (const [module, [outputCount, inputCount]] of decoder.linearModules) {
    if (!isAdapted(module, set)) continue;
    const names = loraNames(module);
    const a = new Float32Array(subjects.length * rank * inputCount);
    const b = new Float32Array(subjects.length * outputCount * rank);
    subjects.forEach((adapter, subject) => {
      const [ownA, ownB] = [adapter?.parameters[names.a]?.data, adapter?.parameters[names.b]?.data];
      if (adapter === undefined || ownA === undefined || ownB === undefined) return;
      a.set(ownA, subject * rank * inputCount);
      const scale = adapter.lora.alpha / adapter.lora.rank;
      for (let index = 0; index < ownB.length; index++) {
        const row = subject * outputCount + Math.floor(index / adapter.lora.rank);
        b[row * rank + (index % adapter.lora.rank)] = scale * (ownB[index] as number);
      }
    });
    stacks[names.a] = { dataType: 'float32', shape: [subjects.length, rank, inputCount], data: a };
    stacks[names.b] = { dataType: 'float32', shape: [subjects.length, outputCount, rank], data: b };
  }
  return stacks;
};
