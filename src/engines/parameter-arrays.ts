import { UserError } from '../base/errors.ts';
import { sameShape } from '../graph/tensor-type.ts';
import type { Arrays } from '../optim/optimiser.ts';
import type { ParameterSet } from './engine.ts';

export type ParameterShapes = ReadonlyMap<string, readonly number[]>;

export const arraysOf = (set: ParameterSet): Arrays => Object.fromEntries(Object.entries(set).map(([name, { data }]) => [name, data]));

/** Copies: a caller who writes into them changes no engine. */
export const parameterSet = (arrays: Arrays, shapes: ParameterShapes): ParameterSet =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, data]) => [name, { shape: shapes.get(name) ?? [data.length], data: data.slice() }]),
  );

/** The arrays of a set that must have the engine's names and shapes, copied. */
export const checkedArrays = (set: ParameterSet, shapes: ParameterShapes): Arrays => {
  const missing = [...shapes.keys()].filter((name) => set[name] === undefined);
  const foreign = Object.keys(set).filter((name) => !shapes.has(name));
  const bent = [...shapes].filter(([name, shape]) => set[name] !== undefined && !sameShape(set[name].shape, shape)).map(([name]) => name);
  const problems = Object.entries({ missing, foreign, 'of another shape': bent }).filter(([, found]) => found.length > 0);
  if (problems.length > 0) {
    const lines = problems.map(
      ([what, found]) => `  ${what}: ${found.slice(0, 5).join(', ')}${found.length > 5 ? ` and ${found.length - 5} more` : ''}`,
    );
    throw new UserError(`These parameters do not fit the model and its adapter:\n${lines.join('\n')}`);
  }
  return Object.fromEntries([...shapes.keys()].map((name) => [name, Float32Array.from((set[name] as ParameterSet[string]).data)]));
};

export const scaled = (arrays: Arrays, factor: number): Arrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, data.map((value) => value * factor)]));

/** Adds arrays to a sum in place; the first become the sum. */
export const added = (sum: Record<string, Float32Array> | undefined, arrays: Arrays): Record<string, Float32Array> => {
  if (sum === undefined) return { ...arrays };
  for (const [name, values] of Object.entries(arrays)) {
    const total = sum[name] as Float32Array;
    for (let index = 0; index < total.length; index++) total[index] = (total[index] as number) + (values[index] as number);
  }
  return sum;
};
