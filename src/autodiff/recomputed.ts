import { nodesBefore } from '../graph/graph.ts';
import type { Value } from '../graph/value.ts';
import { after } from '../ops/after.ts';
import { surrogate } from '../ops/surrogate.ts';
import { gradient } from './gradient.ts';

/**
 * `part(x)`, of which nothing but x is kept for the way back: there it is computed once more (gradient checkpointing, Chen et al. 2016,
 * arXiv 1604.06174). The gradients are the same, for half as much time again where the part is most of the work.
 *
 * @param part traces the same at every call; it may take inputs of the program beside x
 * @param trained names of the inputs whose gradients are wanted
 */
export const recomputed = (part: (x: Value) => Value, x: Value, trained: ReadonlySet<string>): Value => {
  const result = part(x);
  const parameters = inputsOf(result, x).filter(({ origin }) => origin.kind === 'input' && trained.has(origin.name));
  const [y] = surrogate([x, ...parameters], [result], ([cotangent]) => {
    if (cotangent === undefined) return [undefined];
    // What is computed from x alone could be, and would be, computed long before it is needed.
    const again = after(x, cotangent);
    const [slope, ...slopes] = gradient(part(again), [again, ...parameters], cotangent) as [Value, ...Value[]];
    // The parameters' gradients are results of the program: left for its end, they would hold all that they are made of until then.
    return [slopes.length === 0 ? slope : after(slope, ...slopes), ...slopes];
  }) as [Value];
  return y;
};

/** The inputs of the program that a value is made of, but for what stands before x. */
const inputsOf = (value: Value, x: Value): Value[] => {
  const taken = nodesBefore([value], new Set([x])).flatMap(({ inputs }) => inputs);
  return [...new Set(taken.filter((one) => one?.origin.kind === 'input' && one !== x))] as Value[];
};
