import { scalar, type Value } from '../graph/value.ts';
import { split } from '../ops/broadcasting.ts';
import { add, mul } from '../ops/elementwise.ts';
import { gemm, matmul } from '../ops/matmul.ts';
import { concat, reshape } from '../ops/shape.ts';
import { type AdapterScope, isAdapted, type LinearModule, loraNames, type Scope } from './scope.ts';

/** y = x·Wᵀ (+ bias) (+ adapter). x is [rows, inputs], W [outputs, inputs] as checkpoints hold it, y [rows, outputs]. */
export const linear = (scope: Scope, module: string, x: Value, outputCount: number, bias = false): Value => {
  const [y] = linears(scope, [{ module, outputCount }], x) as [Value];
  return bias ? add(y, scope.parameter(`${module}.bias`, [outputCount])) : y;
};

/** Several linear layers of one input. */
export const linears = (scope: Scope, modules: readonly LinearModule[], x: Value): readonly Value[] => {
  const inputCount = x.type.shape[1] as number;
  const products =
    scope.frozen?.(modules, x) ??
    modules.map(({ module, outputCount }) => gemm(x, scope.parameter(`${module}.weight`, [outputCount, inputCount]), { transposeB: true }));
  const { adapter } = scope;
  if (adapter === undefined) return products;
  const adapted = modules.map(({ module }) => module).filter((module) => isAdapted(module, adapter.targets));
  const narrow = narrowed(scope, adapter, adapted, x);
  return modules.map(({ module, outputCount }, index) => {
    const product = products[index] as Value;
    const part = narrow.get(module);
    if (part === undefined) return product;
    return add(product, adapterProduct(scope, adapter, part, loraNames(module).b, outputCount));
  });
};

/** (alpha / rank)·x·Aᵀ of each module, [rows, rank]. Where all see the same x, one product makes them. */
const narrowed = (scope: Scope, adapter: AdapterScope, modules: readonly string[], x: Value): ReadonlyMap<string, Value> => {
  const { rank, alpha, adapterCount, dropoutMask } = adapter;
  // The scale goes where the tensor is smallest.
  const scaled = (value: Value): Value => mul(value, scalar(alpha / rank));
  if (modules.length < 2 || adapterCount !== undefined || dropoutMask !== undefined) {
    const seen = (module: string): Value => (dropoutMask === undefined ? x : mul(x, dropoutMask(module, x.type.shape)));
    return new Map(modules.map((module) => [module, scaled(adapterProduct(scope, adapter, seen(module), loraNames(module).a, rank))]));
  }
  const matrices = modules.map((module) => scope.parameter(loraNames(module).a, [rank, x.type.shape[1] as number]));
  const together = scaled(gemm(x, concat(matrices, 0), { transposeB: true })); // [rows, modules · rank]
  const sizes = modules.map(() => rank);
  const parts = split(together, 1, sizes);
  return new Map(modules.map((module, index) => [module, parts[index] as Value]));
};

/** x·Mᵀ, M being A or B; of several adapters side by side each takes its own part of the rows. */
const adapterProduct = (scope: Scope, { adapterCount }: AdapterScope, x: Value, name: string, outputCount: number): Value => {
  const [rowCount, inputCount] = x.type.shape as [number, number];
  if (adapterCount === undefined) return gemm(x, scope.parameter(name, [outputCount, inputCount]), { transposeB: true });
  const parts = reshape(x, [adapterCount, rowCount / adapterCount, inputCount]);
  const products = matmul(parts, scope.parameter(name, [adapterCount, outputCount, inputCount]), { transposeB: true });
  return reshape(products, [rowCount, outputCount]);
};
