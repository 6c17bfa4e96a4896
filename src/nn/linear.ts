import { scalar, type Value } from '../graph/value.ts';
import { add, mul } from '../ops/elementwise.ts';
import { gemm } from '../ops/matmul.ts';
import { isAdapted, loraNames, type Scope } from './scope.ts';

/** y = x·Wᵀ (+ bias) (+ adapter). x is [rows, inputs], W [outputs, inputs] as checkpoints hold it, y [rows, outputs]. */
export const linear = (scope: Scope, module: string, x: Value, outputCount: number, bias = false): Value => {
  const inputCount = x.type.shape[1] as number;
  const product = gemm(x, scope.parameter(`${module}.weight`, [outputCount, inputCount]), { transposeB: true });
  const base = bias ? add(product, scope.parameter(`${module}.bias`, [outputCount])) : product;
  const { adapter } = scope;
  if (adapter === undefined || !isAdapted(module, adapter.targets)) return base;
  const names = loraNames(module);
  const mask = adapter.dropoutMask?.(module, x.type.shape);
  const narrow = gemm(mask === undefined ? x : mul(x, mask), scope.parameter(names.a, [adapter.rank, inputCount]), { transposeB: true }); // [rows, rank]
  // The scale goes where the tensor is smallest.
  const scaled = mul(narrow, scalar(adapter.alpha / adapter.rank));
  return add(base, gemm(scaled, scope.parameter(names.b, [outputCount, adapter.rank]), { transposeB: true }));
};
