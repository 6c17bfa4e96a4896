import type { HostTensor, Shape } from '../src/graph/tensor-type.ts';
import type { Value } from '../src/graph/value.ts';
import * as ops from '../src/ops/index.ts';
import { quantisedOps } from './quantised-samples.ts';
import { rotaryOps } from './rotary-samples.ts';
import {
  awayFromZero,
  bools,
  type Draw,
  f32,
  floats,
  integers,
  listed,
  normal,
  type OpSamples,
  positive,
  type Sample,
  shapePairs,
  shapesOf,
  streamOf,
  type,
} from './sample-tensors.ts';

const unary = (name: string, build: (x: Value) => Value, draw: Draw = normal): OpSamples => {
  const random = streamOf(name);
  return { samples: shapesOf(random).map((shape) => ({ inputs: [floats(random, shape, draw)], build })), misfits: [] };
};

const binary = (name: string, build: (a: Value, b: Value) => Value, drawB: Draw = normal): OpSamples => {
  const random = streamOf(name);
  return {
    samples: shapePairs(random).map(([a, b]) => ({ inputs: [floats(random, a), floats(random, b, drawB)], build })),
    misfits: [
      { inputs: [f32(2, 3), f32(2, 4)], build },
      { inputs: [f32(2, 3), type('int32', 2, 3)], build },
    ],
  };
};

/** Small integers, so that equal elements occur. */
const comparison = (name: string, build: (a: Value, b: Value) => Value): OpSamples => {
  const random = streamOf(name);
  const samples = (['float32', 'int32', 'int64'] as const).flatMap((dataType) =>
    shapePairs(random).map(([a, b]) => ({
      inputs: [a, b].map((shape) =>
        dataType === 'float32' ? floats(random, shape, () => random.integer(3)) : integers(random, dataType, shape, 3),
      ),
      build,
    })),
  );
  return {
    samples,
    misfits: [
      { inputs: [f32(2, 3), f32(2, 4)], build },
      { inputs: [f32(2, 3), type('int32', 2, 3)], build },
    ],
  };
};

const logical = (name: string, build: (a: Value, b: Value) => Value): OpSamples => {
  const random = streamOf(name);
  return {
    samples: shapePairs(random).map(([a, b]) => ({ inputs: [bools(random, a), bools(random, b)], build })),
    misfits: [
      { inputs: [type('bool', 2, 3), type('bool', 2, 4)], build },
      { inputs: [f32(2, 3), f32(2, 3)], build },
    ],
  };
};

const reduction = (name: string, build: (x: Value, axes: readonly number[], keepDimensions?: boolean) => Value): OpSamples => {
  const random = streamOf(name);
  const cases: [Shape, number[]][] = [
    [[5], [0]],
    [[1], [-1]],
    [
      [2, 3, 5],
      [0, 2],
    ],
    [
      [2, 3, 5],
      [-1, 0, 1],
    ],
    [[3, 1, 7], [1]],
    [[2, 7], [0]],
    [[1, 4, 1], [-2]],
  ];
  return {
    samples: cases.flatMap(([shape, axes]) =>
      [false, true].map((keep) => ({ inputs: [floats(random, shape)], build: (x: Value) => build(x, axes, keep) })),
    ),
    misfits: [],
  };
};

type Product = (a: Value, b: Value, flags: { transposeA: boolean; transposeB: boolean }) => Value;

const product = (name: string, build: Product, batches: readonly [Shape, Shape][], misfits: readonly [Shape, Shape][]): OpSamples => {
  const random = streamOf(name);
  const flags = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({ transposeA, transposeB })));
  const sizes = [
    [1, 1, 1],
    [3, 5, 2],
    [7, 1, 4],
  ] as const;
  const samples = batches.flatMap(([batchA, batchB]) =>
    flags.flatMap((flag) =>
      sizes.map(([rows, inner, columns]) => ({
        inputs: [
          floats(random, [...batchA, ...(flag.transposeA ? [inner, rows] : [rows, inner])]),
          floats(random, [...batchB, ...(flag.transposeB ? [columns, inner] : [inner, columns])]),
        ],
        build: (a: Value, b: Value) => build(a, b, flag),
      })),
    ),
  );
  const plain = { transposeA: false, transposeB: false };
  return {
    samples,
    misfits: [
      ...misfits.map(([a, b]) => ({ inputs: [f32(...a), f32(...b)], build: (x: Value, y: Value) => build(x, y, plain) })),
      { inputs: [f32(2, 3), f32(2, 3)], build: (x, y) => build(x, y, plain) },
      { inputs: [f32(2, 3), f32(3, 2)], build: (x, y) => build(x, y, { transposeA: true, transposeB: false }) },
      { inputs: [f32(3), f32(3, 2)], build: (x, y) => build(x, y, plain) },
      { inputs: [f32(2, 3), type('int32', 3, 2)], build: (x, y) => build(x, y, plain) },
    ],
  };
};

const shapeOps = (): Record<string, OpSamples> => {
  const random = streamOf('shape');
  const x = (...shape: number[]): HostTensor[] => [floats(random, shape)];
  return {
    reshape: {
      samples: [
        { inputs: x(2, 6), build: (a) => ops.reshape(a, [3, 4]) },
        { inputs: x(2, 3, 5), build: (a) => ops.reshape(a, [-1, 5]) },
        { inputs: x(1, 1), build: (a) => ops.reshape(a, []) },
        { inputs: x(0, 3), build: (a) => ops.reshape(a, [3, 0]) },
        { inputs: [integers(random, 'int64', [4], 9)], build: (a) => ops.reshape(a, [2, 2]) },
      ],
      misfits: [
        { inputs: [f32(2, 3)], build: (a) => ops.reshape(a as Value, [4, 2]) },
        { inputs: [f32(2, 3)], build: (a) => ops.reshape(a as Value, [4, -1]) },
        { inputs: [f32(2, 3)], build: (a) => ops.reshape(a as Value, [-1, -1]) },
      ],
    },
    transpose: {
      samples: [
        { inputs: x(2, 3), build: (a) => ops.transpose(a, [1, 0]) },
        { inputs: x(2, 1, 3, 5), build: (a) => ops.transpose(a, [0, 2, 1, 3]) },
        { inputs: x(2, 3, 5, 7), build: (a) => ops.transpose(a, [3, 0, 2, 1]) },
      ],
      misfits: [
        { inputs: [f32(2, 3)], build: (a) => ops.transpose(a as Value, [0, 0]) },
        { inputs: [f32(2, 3)], build: (a) => ops.transpose(a as Value, [0, 1, 2]) },
      ],
    },
    slice: {
      samples: [
        { inputs: x(7), build: (a) => ops.slice(a, 0, 2, 5) },
        { inputs: x(2, 5, 3), build: (a) => ops.slice(a, -2, -3, 5) },
        { inputs: x(1, 4), build: (a) => ops.slice(a, 1, 3, 4) },
        { inputs: [bools(random, [6])], build: (a) => ops.slice(a, 0, 0, -1) },
      ],
      misfits: [
        { inputs: [f32(2, 3)], build: (a) => ops.slice(a as Value, 1, 0, 4) },
        { inputs: [f32(2, 3)], build: (a) => ops.slice(a as Value, 1, 2, 1) },
      ],
    },
    pad: {
      samples: [
        { inputs: x(3), build: (a) => ops.pad(a, 0, 2, 0) },
        { inputs: x(2, 1, 3), build: (a) => ops.pad(a, 1, 0, 4) },
        { inputs: x(2, 5), build: (a) => ops.pad(a, -1, 1, 1) },
      ],
      misfits: [{ inputs: [f32(2, 3)], build: (a) => ops.pad(a as Value, 1, -1, 0) }],
    },
    concat: {
      samples: [
        { inputs: [...x(2, 3), ...x(2, 1)], build: (a, b) => ops.concat([a as Value, b as Value], 1) },
        { inputs: [...x(1), ...x(5), ...x(2)], build: (...all) => ops.concat(all, -1) },
        { inputs: x(2, 3), build: (a) => ops.concat([a as Value, a as Value], 0) },
      ],
      misfits: [
        { inputs: [f32(2, 3), f32(3, 3)], build: (a, b) => ops.concat([a as Value, b as Value], 1) },
        { inputs: [f32(2, 3), f32(2)], build: (a, b) => ops.concat([a as Value, b as Value], 1) },
      ],
    },
    expand: {
      samples: [
        { inputs: x(), build: (a) => ops.expand(a, [2, 3]) },
        { inputs: x(2, 1, 3), build: (a) => ops.expand(a, [5, 2, 7, 3]) },
        { inputs: x(1), build: (a) => ops.expand(a, [1, 1, 4]) },
      ],
      misfits: [
        { inputs: [f32(2, 3)], build: (a) => ops.expand(a as Value, [3, 3]) },
        { inputs: [f32(2, 3)], build: (a) => ops.expand(a as Value, [3]) },
      ],
    },
    split: {
      samples: [
        { inputs: x(2, 7, 3), build: (a) => ops.split(a, 1, [3, 1, 3]) },
        { inputs: x(6), build: (a) => ops.split(a, -1, [2, 4]) },
        // Some parts are not used: their gradient is zero.
        { inputs: x(2, 7), build: (a) => ops.split(a, 1, [3, 1, 3])[1] as Value },
        { inputs: x(2, 7), build: (a) => [0, 2].map((part) => ops.split(a, 1, [3, 1, 3])[part] as Value) },
      ],
      misfits: [{ inputs: [f32(2, 3)], build: (a) => ops.split(a as Value, 1, [2, 2]) }],
    },
  };
};

const indexingOps = (): Record<string, OpSamples> => {
  const random = streamOf('indexing');
  const gatherCase = (shape: Shape, indices: HostTensor, axis: number): Sample => ({
    inputs: [floats(random, shape), indices],
    build: (x, ids) => ops.gather(x as Value, ids as Value, axis),
  });
  const scatterCase = (rows: number, indices: HostTensor, inner: Shape): Sample => ({
    inputs: [floats(random, [rows, ...inner]), indices, floats(random, [...indices.shape, ...inner])],
    build: (target, ids, updates) => ops.scatterAdd(target as Value, ids as Value, updates as Value),
  });
  const elementCase = (shape: Shape, indices: HostTensor, axis: number): Sample => ({
    inputs: [floats(random, shape), indices],
    build: (x, ids) => ops.gatherElements(x as Value, ids as Value, axis),
  });
  return {
    gather: {
      samples: [
        gatherCase([5, 3], listed('int64', [2, 3], [4, 0, 4, 4, 1, 0]), 0), // repeated rows
        gatherCase([7], listed('int32', [], [3]), 0),
        gatherCase([2, 5, 3], listed('int32', [4], [1, 1, 0, 4]), 1),
        gatherCase([2, 5, 3], listed('int64', [1, 2], [2, 2]), -1),
        gatherCase([1, 4], listed('int64', [3], [0, 0, 0]), 0),
      ],
      misfits: [{ inputs: [f32(5, 3), f32(2)], build: (x, ids) => ops.gather(x as Value, ids as Value) }],
    },
    // Written with the op of elements, which is also sampled alone.
    scatterElementsAdd: {
      samples: [
        scatterCase(5, listed('int64', [2, 3], [4, 0, 4, 4, 1, 0]), [3]),
        scatterCase(3, listed('int32', [4], [2, 2, 2, 2]), []),
        scatterCase(4, listed('int64', [1], [1]), [2, 3]),
        {
          inputs: [floats(random, [3, 7]), listed('int64', [3, 2], [6, 6, 0, 1, 3, 3]), floats(random, [3, 2])],
          build: (x, ids, updates) => ops.scatterElementsAdd(x as Value, ids as Value, updates as Value, 1),
        },
        {
          inputs: [floats(random, [4, 3]), listed('int32', [2, 3], [3, 3, 3, 0, 3, 3]), floats(random, [2, 3])],
          build: (x, ids, updates) => ops.scatterElementsAdd(x as Value, ids as Value, updates as Value, 0),
        },
      ],
      misfits: [
        {
          inputs: [f32(3, 7), type('int64', 3, 2), f32(3, 1)],
          build: (x, ids, updates) => ops.scatterElementsAdd(x as Value, ids as Value, updates as Value, 1),
        },
        {
          inputs: [f32(5, 3), type('int64', 2), f32(2, 4)],
          build: (x, ids, updates) => ops.scatterAdd(x as Value, ids as Value, updates as Value),
        },
        {
          inputs: [f32(5, 3), type('int64', 2), f32(3, 3)],
          build: (x, ids, updates) => ops.scatterAdd(x as Value, ids as Value, updates as Value),
        },
      ],
    },
    gatherElements: {
      samples: [
        elementCase([3, 7], listed('int64', [3, 1], [6, 0, 3]), 1),
        elementCase([3, 7], listed('int32', [3, 4], [6, 6, 6, 0, 1, 1, 2, 3, 0, 0, 0, 0]), -1),
        elementCase([4, 2, 3], listed('int64', [2, 2, 3], [0, 1, 2, 3, 3, 3, 0, 0, 2, 3, 1, 3]), 0),
      ],
      misfits: [
        { inputs: [f32(3, 7), type('int64', 4, 1)], build: (x, ids) => ops.gatherElements(x as Value, ids as Value, 1) },
        { inputs: [f32(3, 7), type('int64', 3)], build: (x, ids) => ops.gatherElements(x as Value, ids as Value, 1) },
      ],
    },
  };
};

const rowShapes: readonly Shape[] = [[5], [1], [3, 1], [2, 3, 7], [1, 2, 2, 16]];

const normalisationOps = (): Record<string, OpSamples> => {
  const random = streamOf('normalisation');
  const overRows = (build: (x: Value) => Value): OpSamples => ({
    samples: rowShapes.map((shape) => ({ inputs: [floats(random, shape)], build })),
    misfits: [{ inputs: [f32()], build: (x) => build(x as Value) }],
  });
  const chosen = (x: HostTensor, indices: HostTensor): Sample => ({
    inputs: [x, indices],
    build: (values, places) => ops.gatherElements(ops.logSoftmax(values as Value), places as Value, -1),
  });
  return {
    softmax: overRows(ops.softmax),
    logSoftmax: joined(overRows(ops.logSoftmax), {
      // A few chosen log-probabilities, whose gradient is summed apart; the last reads fewer rows than there are, and goes the long way.
      samples: [
        chosen(floats(random, [3, 7]), listed('int64', [3, 1], [6, 0, 3])),
        chosen(floats(random, [2, 2, 5]), listed('int32', [2, 2, 3], [4, 4, 0, 1, 2, 3, 0, 0, 0, 3, 1, 4])),
        chosen(floats(random, [3, 7]), listed('int64', [2, 2], [6, 0, 3, 3])),
      ],
      misfits: [],
    }),
    rmsNorm: {
      samples: [
        ...rowShapes.map((shape) => ({
          inputs: [floats(random, shape), floats(random, shape.slice(-1))],
          build: (x: Value, scale: Value) => ops.rmsNorm(x, scale, 1e-5),
        })),
        // The first output alone, as models use it, and the second alone.
        { inputs: [floats(random, [3, 4]), floats(random, [4])], build: (x, scale) => ops.rmsNorm(x as Value, scale as Value, 0.1)[0] },
        { inputs: [floats(random, [3, 4]), floats(random, [4])], build: (x, scale) => ops.rmsNorm(x as Value, scale as Value, 0.1)[1] },
      ],
      misfits: [{ inputs: [f32(2, 3), f32(2)], build: (x, scale) => ops.rmsNorm(x as Value, scale as Value, 1e-5) }],
    },
    layerNorm: {
      samples: rowShapes.map((shape) => ({
        inputs: [floats(random, shape), floats(random, shape.slice(-1)), floats(random, shape.slice(-1))],
        build: (x, scale, bias) => ops.layerNorm(x as Value, scale as Value, bias as Value, 0.01),
      })),
      misfits: [
        {
          inputs: [f32(2, 3), f32(3), f32(2)],
          build: (x, scale, bias) => ops.layerNorm(x as Value, scale as Value, bias as Value, 1e-5),
        },
      ],
    },
  };
};

const where = (): OpSamples => {
  const random = streamOf('where');
  const build = (...[condition, a, b]: Value[]): Value => ops.where(condition as Value, a as Value, b as Value);
  return {
    samples: shapePairs(random).map(([a, b]) => ({ inputs: [bools(random, a), floats(random, b), floats(random, [])], build })),
    misfits: [
      { inputs: [f32(2), f32(2), f32(2)], build },
      { inputs: [type('bool', 2), f32(3), f32(2)], build },
    ],
  };
};

const cast = (): OpSamples => {
  const random = streamOf('cast');
  return {
    samples: [
      { inputs: [floats(random, [5, 3], (r) => 3 * r.normal())], build: (x) => ops.cast(x as Value, 'int32') },
      { inputs: [floats(random, [7], (r) => 3 * r.normal())], build: (x) => ops.cast(x as Value, 'int64') },
      { inputs: [floats(random, [7], (r) => r.integer(2))], build: (x) => ops.cast(x as Value, 'bool') },
      { inputs: [bools(random, [4, 1])], build: (x) => ops.cast(x as Value, 'float32') },
      { inputs: [integers(random, 'int32', [4], 100)], build: (x) => ops.cast(x as Value, 'float32') },
      { inputs: [integers(random, 'int64', [], 100)], build: (x) => ops.cast(x as Value, 'int32') },
    ],
    misfits: [],
  };
};

const argMax = (): OpSamples => {
  const random = streamOf('argMax');
  const shapes: [Shape, number][] = [
    [[5], 0],
    [[2, 7], -1],
    [[3, 4, 2], 1],
    [[1, 1], 0],
  ];
  return {
    samples: shapes.flatMap(([shape, axis]) =>
      // Integers below 3: ties, of which the first wins.
      [normal, () => random.integer(3)].map((draw) => ({
        inputs: [floats(random, shape, draw)],
        build: (x: Value) => ops.argMax(x, axis, shape.length > 1),
      })),
    ),
    misfits: [{ inputs: [f32(2, 0)], build: (x) => ops.argMax(x as Value, 1) }],
  };
};

const integerArithmetic = (name: string, build: (a: Value, b: Value) => Value): OpSamples => {
  const random = streamOf(`${name} of integers`);
  const samples = (['int32', 'int64'] as const).map((dataType) => ({
    inputs: [
      listed(dataType, [5], [-7, 7, 3, -1, 0]),
      listed(
        dataType,
        [5],
        Array.from({ length: 5 }, () => 2 + random.integer(3)),
      ),
    ],
    build,
  }));
  return { samples, misfits: [] };
};

const joined = (...parts: readonly OpSamples[]): OpSamples => ({
  samples: parts.flatMap((part) => part.samples),
  misfits: parts.flatMap((part) => part.misfits),
});

/** Samples of every row in `allOps`, by its name. */
export const opSamples: Readonly<Record<string, OpSamples>> = {
  add: joined(binary('add', ops.add), integerArithmetic('add', ops.add)),
  sub: joined(binary('sub', ops.sub), integerArithmetic('sub', ops.sub)),
  mul: joined(binary('mul', ops.mul), integerArithmetic('mul', ops.mul), {
    samples: [{ inputs: [floats(streamOf('square'), [3, 2])], build: (x) => ops.square(x as Value) }],
    misfits: [],
  }),
  div: joined(binary('div', ops.div, awayFromZero), integerArithmetic('div', ops.div)),
  maximum: binary('maximum', ops.maximum),
  minimum: binary('minimum', ops.minimum),
  neg: unary('neg', ops.neg),
  exp: unary('exp', ops.exp),
  log: unary('log', ops.log, positive),
  sqrt: unary('sqrt', ops.sqrt, positive),
  sign: unary('sign', ops.sign),
  abs: unary('abs', ops.abs, awayFromZero),
  sigmoid: unary('sigmoid', ops.sigmoid),
  tanh: unary('tanh', ops.tanh),
  relu: unary('relu', ops.relu, awayFromZero),
  erf: unary('erf', ops.erf),
  gelu: unary('gelu', ops.gelu),
  silu: unary('silu', ops.silu, (random) => 3 * random.normal()),
  reciprocal: unary('reciprocal', ops.reciprocal, awayFromZero),
  equal: comparison('equal', ops.equal),
  less: comparison('less', ops.less),
  greaterOrEqual: comparison('greaterOrEqual', ops.greaterOrEqual),
  logicalAnd: logical('logicalAnd', ops.logicalAnd),
  logicalOr: logical('logicalOr', ops.logicalOr),
  logicalNot: {
    samples: [{ inputs: [bools(streamOf('logicalNot'), [5, 3])], build: (x) => ops.logicalNot(x as Value) }],
    misfits: [{ inputs: [f32(3)], build: (x) => ops.logicalNot(x as Value) }],
  },
  where: where(),
  cast: cast(),
  reduceSum: reduction('reduceSum', ops.reduceSum),
  reduceMax: reduction('reduceMax', ops.reduceMax),
  reduceMin: reduction('reduceMin', ops.reduceMin),
  reduceMean: reduction('reduceMean', ops.reduceMean),
  argMax: argMax(),
  matmul: product(
    'matmul',
    ops.matmul,
    [
      [[], []],
      [[2], [2]],
      [[2, 3], []],
      [[], [2]],
      [
        [2, 1],
        [1, 3],
      ],
    ],
    [
      [
        [2, 2, 3],
        [3, 3, 2],
      ],
    ],
  ),
  gemm: product(
    'gemm',
    ops.gemm,
    [[[], []]],
    [
      [
        [2, 2, 3],
        [3, 2],
      ],
    ],
  ),
  ...shapeOps(),
  ...indexingOps(),
  ...normalisationOps(),
  ...quantisedOps(),
  ...rotaryOps(),
};
