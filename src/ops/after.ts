import { scalar, type Value } from '../graph/value.ts';
import { reduceSum } from './broadcasting.ts';
import { add, mul } from './elementwise.ts';

/**
 * x, but not before all of `earlier` are there. ONNX Runtime chooses the order of a program's nodes, and left alone it computes early what only the
 * end needs, or late what would set memory free. Of finite values this adds 0; others spread, where a training ends anyway.
 */
export const after = (x: Value, ...earlier: readonly Value[]): Value => {
  const sums = earlier.map((value) => reduceSum(value, [...value.type.shape.keys()], false));
  return add(x, mul(sums.reduce(add), scalar(0)));
};
