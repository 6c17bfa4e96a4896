import type { AnyOp } from '../graph/value.ts';
import * as broadcasting from './broadcasting.ts';
import * as elementwise from './elementwise.ts';
import * as indexing from './indexing.ts';
import * as matmul from './matmul.ts';
import * as normalisation from './normalisation.ts';
import * as quantised from './quantised.ts';
import * as reduce from './reduce.ts';
import * as rotary from './rotary.ts';
import * as shape from './shape.ts';
import * as surrogates from './surrogate.ts';

export { expand, expandOp, split, splitOp, zeros } from './broadcasting.ts';
export * from './elementwise.ts';
export * from './indexing.ts';
export * from './matmul.ts';
export * from './normalisation.ts';
export { dequantizeRows, dequantizeRowsOp, integerProduct, integerProductOp, quantizeRows, quantizeRowsOp } from './quantised.ts';
export * from './reduce.ts';
export { rotaryEmbedding, rotaryEmbeddingOp } from './rotary.ts';
export * from './shape.ts';
export { surrogate, surrogateOp } from './surrogate.ts';

const isRow = (exported: unknown): exported is AnyOp =>
  typeof exported === 'object' && exported !== null && 'inferTypes' in exported && 'toOnnx' in exported;

/** Every row that an op file exports: what the suite goes through, so that a new row without samples fails it. */
export const allOps: readonly AnyOp[] = [
  ...new Set(
    [broadcasting, elementwise, indexing, matmul, normalisation, quantised, reduce, rotary, shape, surrogates].flatMap((family) =>
      Object.values(family).filter(isRow),
    ),
  ),
];
