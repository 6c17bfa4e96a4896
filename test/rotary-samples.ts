import type { HostTensor } from '../src/graph/tensor-type.ts';
import type { Value } from '../src/graph/value.ts';
import * as ops from '../src/ops/index.ts';
import { f32, floats, integers, type OpSamples, type Sample, streamOf, type } from './sample-tensors.ts';

/** [positions, width/2] of cosines and sines, Hugging Face's frequencies. */
const rotaryTables = (positions: number, width: number): [HostTensor, HostTensor] => {
  const angles = Array.from({ length: (positions * width) / 2 }, (_, index) => {
    const feature = index % (width / 2);
    return Math.floor(index / (width / 2)) * 100 ** ((-2 * feature) / width);
  });
  const table = (f: (angle: number) => number): HostTensor => ({
    dataType: 'float32',
    shape: [positions, width / 2],
    data: Float32Array.from(angles, f),
  });
  return [table(Math.cos), table(Math.sin)];
};

export const rotaryOps = (): Record<string, OpSamples> => {
  const random = streamOf('rotary');
  const rotate = (x: Value, positions: Value, cosine: Value, sine: Value): Value => ops.rotaryEmbedding(x, positions, cosine, sine);
  const sample = (batch: number, heads: number, sequence: number, width: number): Sample => ({
    inputs: [floats(random, [batch, heads, sequence, width]), integers(random, 'int64', [batch, sequence], 9), ...rotaryTables(9, width)],
    build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
    differentiated: [0],
  });
  return {
    rotaryEmbedding: {
      samples: [sample(1, 1, 1, 2), sample(2, 3, 5, 8), sample(1, 2, 3, 64)],
      misfits: [
        {
          inputs: [f32(2, 3, 5, 8), type('int64', 2, 4), f32(9, 4), f32(9, 4)],
          build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
        },
        {
          inputs: [f32(2, 3, 5, 8), type('int64', 2, 5), f32(9, 8), f32(9, 8)],
          build: (x, positions, cosine, sine) => rotate(x as Value, positions as Value, cosine as Value, sine as Value),
        },
      ],
    },
  };
};
