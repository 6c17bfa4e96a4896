import assert from 'node:assert/strict';
import { gradient } from '../src/autodiff/gradient.ts';
import type { Random } from '../src/base/random.ts';
import { type Graph, graphOf } from '../src/graph/graph.ts';
import { describeType, elementCount, type HostTensor } from '../src/graph/tensor-type.ts';
import { constant, input, type Value } from '../src/graph/value.ts';
import { add, mul, reduceSum } from '../src/ops/index.ts';
import type { Sample } from './sample-tensors.ts';

/** A sample traced: its inputs by name, its outputs, a scalar that depends on every float output, and that scalar's gradients. */
export interface Traced {
  readonly feeds: Readonly<Record<string, HostTensor>>;
  readonly outputs: readonly Value[];
  readonly loss: Value | undefined;
  readonly differentiated: readonly string[];
  readonly graph: Graph;
}

const isFloat = (value: { readonly type: { readonly dataType: string } }): boolean => value.type.dataType === 'float32';

export const trace = (sample: Sample, hasGradient: boolean, random: Random): Traced => {
  const feeds = Object.fromEntries(sample.inputs.map((tensor, index) => [`input${index}`, tensor]));
  const values = sample.inputs.map((tensor, index) => input(`input${index}`, { dataType: tensor.dataType, shape: tensor.shape }));
  const built = sample.build(...values);
  const outputs = Array.isArray(built) ? (built as Value[]) : [built as Value];
  const parameters = values.filter((value, index) => isFloat(value) && (sample.differentiated?.includes(index) ?? true));
  const loss = hasGradient && outputs.every(isFloat) && parameters.length > 0 ? weightedSum(outputs, random) : undefined;
  const gradients = loss === undefined ? [] : gradient(loss, parameters);
  const differentiated = loss === undefined ? [] : parameters.map((value) => (value.origin.kind === 'input' ? value.origin.name : ''));
  const graph = graphOf({
    ...Object.fromEntries(outputs.map((value, index) => [`output${index}`, value])),
    ...(loss === undefined ? {} : { loss }),
    ...Object.fromEntries(gradients.map((value, index) => [`gradient of ${differentiated[index]}`, value])),
  });
  return { feeds, outputs, loss, differentiated, graph };
};

/** Every element of every output with a weight of its own, so that no two of them can be taken for each other. */
const weightedSum = (outputs: readonly Value[], random: Random): Value =>
  outputs
    .map((value) => {
      const { shape } = value.type;
      const weights = constant({ dataType: 'float32', shape, data: Float32Array.from({ length: elementCount(shape) }, random.normal) });
      return reduceSum(mul(value, weights), [...shape.keys()]);
    })
    .reduce(add);

export const numbers = (tensor: HostTensor | undefined): number[] => Array.from(tensor?.data ?? assert.fail('no such tensor'), Number);

export const assertClose = (actual: HostTensor | undefined, expected: HostTensor | undefined, what: string, relative = 1e-5): void => {
  const [left, right] = [numbers(actual), numbers(expected)];
  assert.deepEqual(actual?.shape, expected?.shape, `${what}: shape`);
  assert.equal(left.length, right.length, `${what}: elements`);
  const isExact = actual?.dataType !== 'float32' && actual?.dataType !== 'float64';
  const size = right.reduce((greatest, value) => Math.max(greatest, Math.abs(value)), 1);
  // float32 carries 24 bits, 6e-8; the sums here have at most a few dozen terms
  const tolerance = isExact ? 0 : relative * size;
  left.forEach((value, index) => {
    const difference = Math.abs(value - (right[index] as number));
    assert.ok(difference <= tolerance, `${what}: element ${index} is ${value}, expected ${right[index]}`);
  });
};

export const describeSample = (sample: Sample): string => `${sample.inputs.map(describeType).join(', ')}`;
