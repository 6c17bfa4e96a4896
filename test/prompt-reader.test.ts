import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type PrefillShape, packedReader } from '../src/engines/prompt-reader.ts';
import { newName } from '../src/engines/step-graphs.ts';
import type { HostTensor } from '../src/graph/tensor-type.ts';
import type { Decoder } from '../src/models/decoder.ts';
import type { Program } from '../src/runtime/program.ts';

const decoder = { layerCount: 1, kvHeadCount: 1, headWidth: 1, vocabularySize: 2 } as Decoder;

/** Notes what is compiled and laid; every key and value is its token. */
const readerOf = (prompts: readonly (readonly number[])[]) => {
  const shapes: PrefillShape[] = [];
  const places = prompts.map((): (number | undefined)[] => []);
  const prefill = async (shape: PrefillShape): Promise<Program> => {
    shapes.push(shape);
    const run = async (inputs: Readonly<Record<string, HostTensor>>) => {
      const data = Float32Array.from(inputs.tokens?.data ?? [], Number);
      const kept: HostTensor = { dataType: 'float32', shape: [1, 1, shape.sequence, 1], data };
      const sources = Array.from(inputs.sources?.data ?? [], Number);
      const logProbabilities: HostTensor = {
        dataType: 'float32',
        shape: [shape.promptCount, 2],
        data: Float32Array.from(sources.flatMap((source) => [source, data[source] ?? -1])),
      };
      return { [newName('key', 0)]: kept, [newName('value', 0)]: kept, logProbabilities };
    };
    return { run, release: async () => undefined } as unknown as Program;
  };
  const reader = packedReader(
    { decoder, parameters: {}, prefill },
    (outputs, layings) => {
      for (const { place, start = 0, position, count } of layings) {
        const values = outputs[newName('key', 0)]?.data as Float32Array;
        for (let index = 0; index < count; index++) (places[place] as number[])[position + index] = values[start + index] as number;
      }
    },
    prompts,
  );
  return { reader, shapes, places };
};

const placed = (prompts: readonly (readonly number[])[]) => prompts.map((tokens, place) => ({ place, tokens }));
const counted = (count: number, first: number): number[] => Array.from({ length: count }, (_, index) => first + index);

describe('reading prompts', () => {
  it('reads what all begin with once, and every prompt lies whole in its place', async () => {
    const common = counted(70, 1000);
    const prompts = [[...common, 1, 2, 3], [...common, 4], common];
    const { reader, shapes, places } = readerOf(prompts);
    const read = await reader.read(placed(prompts));
    assert.deepEqual(places, prompts);
    assert.deepEqual(
      shapes.map(({ sequence, promptCount, prefixLength }) => [sequence, promptCount, prefixLength]),
      // 69 tokens are common to all but for the last of the shortest: two times 32.
      [
        [64, 1, 0],
        [64, 4, 64],
      ],
    );
    assert.deepEqual(
      read.map((values) => values[1]),
      [3, 4, 1069],
    );
  });

  it('shares nothing where prompts differ early, or where there is one', async () => {
    for (const prompts of [[counted(80, 0), counted(80, 1)], [counted(80, 0)]]) {
      const { reader, shapes, places } = readerOf(prompts);
      await reader.read(placed(prompts));
      assert.deepEqual(places, prompts);
      assert.deepEqual(
        shapes.map(({ prefixLength }) => prefixLength),
        [0],
      );
    }
  });

  it('takes as many prompts in a run as 512 tokens hold, sixteen at most, and one that is longer by itself', () => {
    const { reader } = readerOf([]);
    const countOf = (...lengths: number[]) => reader.countIn(placed(lengths.map((length) => counted(length, 0))));
    assert.deepEqual([countOf(200, 200, 112), countOf(200, 200, 113), countOf(700, 5)], [3, 2, 1]);
    assert.equal(countOf(...Array.from({ length: 20 }, () => 10)), 16);
  });
});
