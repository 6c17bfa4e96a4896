import { type Graph, graphOf } from '../graph/graph.ts';
import { rewrittenOutputs } from '../graph/rewrite.ts';
import { elementCount, float32, type Shape } from '../graph/tensor-type.ts';
import { input, type Value } from '../graph/value.ts';
import { zeros } from '../ops/broadcasting.ts';
import { concat, reshape, slice } from '../ops/shape.ts';
import type { Arrays } from '../optim/optimiser.ts';
import type { ParameterShapes } from './parameter-arrays.ts';
import { gradientName } from './step-graphs.ts';

/**
 * Parameters end to end in one vector. An adapter's 420 small tensors are one bundle: adding gradients up, taking their norm and the
 * optimiser's step are then a handful of operations on a device, each of which costs microseconds to begin however little it does.
 */
export interface Bundle {
  readonly members: readonly Member[];
  /** A multiple of `rowLength`; beyond the members' ends are zeros. */
  readonly length: number;
  /** Whether weight decay touches it: parameters of one axis, norms and biases, are bundled apart. */
  readonly decays: boolean;
}

interface Member {
  readonly name: string;
  readonly shape: Shape;
  readonly offset: number;
}

/** Sums over a bundle are taken over rows of this length first: on a device each sum is one thread's work. */
export const rowLength = 1024;

/** What every WebGPU device can bind as one buffer: 128 MiB. A larger parameter is a bundle by itself, which some devices refuse. */
const mostElements = 2 ** 25;

export const bundlesOf = (shapes: ParameterShapes): Bundle[] =>
  [true, false].flatMap((decays) => {
    const groups: { members: Member[]; end: number }[] = [];
    for (const [name, shape] of shapes) {
      if (shape.length > 1 !== decays) continue;
      const count = elementCount(shape);
      const last = groups.at(-1);
      if (last === undefined || last.end + count > mostElements) groups.push({ members: [{ name, shape, offset: 0 }], end: count });
      else {
        last.members.push({ name, shape, offset: last.end });
        last.end += count;
      }
    }
    return groups.map(({ members, end }) => ({ members, decays, length: Math.ceil(end / rowLength) * rowLength }));
  });

export const bundleName = (index: number): string => `bundle:${index}`;

/** A program whose parameters are parts of bundles, and which puts gradients out in bundles, by their names after `gradientName`. */
export const inBundles = (graph: Graph, bundles: readonly Bundle[]): Graph => {
  const places = new Map(
    bundles.flatMap(({ members, length }, index) => {
      const bundle = input(bundleName(index), float32(length));
      return members.map((member) => [member.name, { ...member, bundle }] as const);
    }),
  );
  const outputs = rewrittenOutputs(graph, {
    input: (name) => {
      const place = places.get(name);
      return place && reshape(slice(place.bundle, 0, place.offset, place.offset + elementCount(place.shape)), place.shape);
    },
  });
  bundles.forEach((bundle, index) => {
    if (bundle.members.every(({ name }) => outputs[gradientName(name)] === undefined)) return;
    outputs[gradientName(bundleName(index))] = together(bundle, outputs);
    for (const { name } of bundle.members) delete outputs[gradientName(name)];
  });
  return graphOf(outputs);
};

const together = ({ members, length }: Bundle, outputs: Readonly<Record<string, Value>>): Value => {
  const parts = members.map(({ name }) => reshape(outputs[gradientName(name)] as Value, [-1]));
  const rest = length - parts.reduce((sum, part) => sum + elementCount(part.type.shape), 0);
  return concat(rest === 0 ? parts : [...parts, zeros([rest])], 0);
};

export const packBundle = ({ members, length }: Bundle, arrays: Arrays): Float32Array => {
  const data = new Float32Array(length);
  for (const { name, offset } of members) data.set(arrays[name] as Float32Array, offset);
  return data;
};

export const unpackBundles = (bundles: readonly Bundle[], vectors: readonly Float32Array[]): Arrays =>
  Object.fromEntries(
    bundles.flatMap(({ members }, index) =>
      members.map(({ name, shape, offset }) => [name, (vectors[index] as Float32Array).slice(offset, offset + elementCount(shape))]),
    ),
  );
