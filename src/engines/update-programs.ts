import { type Graph, graphOf } from '../graph/graph.ts';
import { float32 } from '../graph/tensor-type.ts';
import { input, type Value } from '../graph/value.ts';
import { add, mul, square } from '../ops/elementwise.ts';
import { reduceSum } from '../ops/reduce.ts';
import { reshape } from '../ops/shape.ts';
import { adamwUpdate, numberName, sgdUpdate, type UpdateRule, type UpdateStep } from '../optim/update-rules.ts';
import type { DeviceName } from '../runtime/devices.ts';
import { compileProgram } from '../runtime/onnx-program.ts';
import type { DeviceTensor, KeptOutputs, Program } from '../runtime/program.ts';
import { type Bundle, rowLength } from './bundles.ts';
import type { OptimiserSpecification } from './engine.ts';

/** A tensor for each bundle. */
export type Vectors = readonly DeviceTensor[];

/** What an optimiser step does with bundles on a device. Nothing that goes in is disposed of. */
export interface UpdatePrograms {
  add(a: Vectors, b: Vectors): Promise<Vectors>;
  sumOfSquares(vectors: Vectors): Promise<number>;
  /** Names of what an optimiser remembers. */
  slotsOf(optimiser: OptimiserSpecification): readonly string[];
  update(optimiser: OptimiserSpecification, before: Updated & { readonly gradients: Vectors }, step: ScaledStep): Promise<Updated>;
  release(): Promise<void>;
}

export interface Updated {
  readonly parameters: Vectors;
  readonly slots: Readonly<Record<string, Vectors>>;
}

export interface ScaledStep extends UpdateStep {
  /** Multiplies the gradients first. */
  readonly factor: number;
}

const updateRules: {
  readonly [Name in OptimiserSpecification['name']]: (options: Extract<OptimiserSpecification, { name: Name }>) => UpdateRule;
} = {
  adamw: adamwUpdate,
  sgd: sgdUpdate,
};
const ruleOf = (optimiser: OptimiserSpecification): UpdateRule =>
  (updateRules[optimiser.name] as (options: OptimiserSpecification) => UpdateRule)(optimiser);

export const updatePrograms = (device: DeviceName, bundles: readonly Bundle[]): UpdatePrograms => {
  const programs = new Map<string, Promise<Program>>();
  const compiled = (key: string, graph: () => Graph, keeps: boolean): Promise<Program> => {
    const known = programs.get(key);
    if (known !== undefined) return known;
    const traced = graph();
    const program = compileProgram(traced, { device, kept: new Set(keeps ? traced.outputs.keys() : []) });
    programs.set(key, program);
    return program;
  };
  const taken = (name: string, kept: KeptOutputs['kept']): Vectors =>
    bundles.map((_, index) => kept[vectorName(name, index)] as DeviceTensor);
  return {
    add: async (a, b) => {
      const program = await compiled('add', () => additionGraph(bundles), true);
      return taken('sum', (await program.runKeeping({ ...named('a', a), ...named('b', b) })).kept);
    },
    sumOfSquares: async (vectors) => {
      const program = await compiled('squares', () => squaresGraph(bundles), false);
      return Object.values(await program.run(named('a', vectors))).reduce((sum, { data }) => sum + Number(data[0]), 0);
    },
    slotsOf: (optimiser) => ruleOf(optimiser).slots,
    update: async (optimiser, { parameters, gradients, slots }, { factor, ...step }) => {
      const rule = ruleOf(optimiser);
      const program = await compiled(JSON.stringify(optimiser), () => updateGraph(bundles, rule), true);
      const numbers = Object.entries({ ...rule.numbers(step), factor });
      const { kept } = await program.runKeeping({
        ...named('parameters', parameters),
        ...named('gradients', gradients),
        ...Object.assign({}, ...Object.entries(slots).map(([slot, vectors]) => named(slot, vectors))),
        ...Object.fromEntries(numbers.map(([name, value]) => [numberName(name), { ...float32(), data: Float32Array.of(value) }])),
      });
      return {
        parameters: taken(next('parameters'), kept),
        slots: Object.fromEntries(rule.slots.map((slot) => [slot, taken(next(slot), kept)])),
      };
    },
    release: async () => {
      for (const program of programs.values()) await (await program).release();
      programs.clear();
    },
  };
};

const vectorName = (name: string, index: number): string => `${name}:${index}`;
/** What takes the place of a vector. */
const next = (name: string): string => `next ${name}`;

const named = (name: string, vectors: Vectors): Record<string, DeviceTensor> =>
  Object.fromEntries(vectors.map((tensor, index) => [vectorName(name, index), tensor]));

const vector = (name: string, index: number, { length }: Bundle): Value => input(vectorName(name, index), float32(length));

export const additionGraph = (bundles: readonly Bundle[]): Graph =>
  graphOf(
    Object.fromEntries(
      bundles.map((bundle, index) => [vectorName('sum', index), add(vector('a', index, bundle), vector('b', index, bundle))]),
    ),
  );

/** Each bundle's sum of squares, over rows first. */
export const squaresGraph = (bundles: readonly Bundle[]): Graph =>
  graphOf(
    Object.fromEntries(
      bundles.map((bundle, index) => {
        const rows = reshape(square(vector('a', index, bundle)), [-1, rowLength]);
        return [vectorName('squares', index), reduceSum(reduceSum(rows, [1]), [0])];
      }),
    ),
  );

/** Takes `parameters:i`, `gradients:i`, each slot's vectors and the step's numbers; puts out `next parameters:i` and the slots likewise. */
export const updateGraph = (bundles: readonly Bundle[], rule: UpdateRule): Graph => {
  const outputs: Record<string, Value> = {};
  const numbers = new Map<string, Value>();
  const number = (name: string): Value => {
    const known = numbers.get(name) ?? input(numberName(name), float32());
    numbers.set(name, known);
    return known;
  };
  bundles.forEach((bundle, index) => {
    const { parameters, slots } = rule.update(
      {
        parameters: vector('parameters', index, bundle),
        gradients: mul(vector('gradients', index, bundle), number('factor')),
        slots: Object.fromEntries(rule.slots.map((slot) => [slot, vector(slot, index, bundle)])),
        decays: bundle.decays,
      },
      number,
    );
    outputs[vectorName(next('parameters'), index)] = parameters;
    for (const slot of rule.slots) outputs[vectorName(next(slot), index)] = slots[slot] as Value;
  });
  return graphOf(outputs);
};
