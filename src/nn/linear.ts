import { scalar, type Value } from '../graph/value.ts';
import { add, mul } from '../ops/elementwise.ts';
import { gemm, matmul } from '../ops/matmul.ts';
import { reshape } from '../ops/shape.ts';
import { type AdapterScope, isAdapted, loraNames, type Scope } from './scope.ts';

/** y = x·Wᵀ (+ bias) (+ adapter). x is [rows, inputs], W [outputs, inputs] as checkpoints hold it, y [rows, outputs]. */
export const linear = (scope: Scope, module: string, x: Value, outputCount: number, bias = false): Value => {
  const inputCount = x.type.shape[1] as number;
  const product = gemm(x, scope.parameter(`${module}.weight`, [outputCount, inputCount]), { transposeB: true });
  const base = bias ? add(product, scope.parameter(`${module}.bias`, [outputCount])) : product;
  const { adapter } = scope;
  if (adapter === undefined || !isAdapted(module, adapter.targets)) return base;
  const names = loraNames(module);
  const mask = adapter.dropoutMask?.(module, x.type.shape);
  const narrow = adapterProduct(scope, adapter, mask === undefined ? x : mul(x, mask), names.a, adapter.rank); // [rows, rank]
  // The scale goes where the tensor is smallest.
  const scaled = mul(narrow, scalar(adapter.alpha / adapter.rank));
  return add(base, adapterProduct(scope, adapter, scaled, names.b, outputCount));
};

/** x·Mᵀ, M being A or B; of several adapters side by side each takes its own part of the rows. */
const adapterProduct = (scope: Scope, { adapterCount }: AdapterScope, x: Value, name: string, outputCount: number): Value => {
  const [rowCount, inputCount] = x.type.shape as [number, number];
  if (adapterCount === undefined) return gemm(x, scope.parameter(name, [outputCount, inputCount]), { transposeB: true });
  const parts = reshape(x, [adapterCount, rowCount / adapterCount, inputCount]);
  const products = matmul(parts, scope.parameter(name, [adapterCount, outputCount, inputCount]), { transposeB: true });
  return reshape(products, [rowCount, outputCount]);
};
