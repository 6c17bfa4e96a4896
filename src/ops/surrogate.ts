import { ShapeError } from '../base/errors.ts';
import { apply, type Op, type Value } from '../graph/value.ts';

export interface Surrogate {
  /** How many of the inputs the results are differentiated by; the rest are the results themselves. */
  readonly sourceCount: number;
  /** Cotangents of the results in, of the sources out. */
  readonly vjp: (cotangents: readonly (Value | undefined)[]) => readonly (Value | undefined)[];
}

/** Results as they are, with a gradient that is not theirs: what flows back into them goes to the sources, by a rule that is given. */
export const surrogateOp: Op<readonly Value[], readonly Value[], Surrogate> = {
  name: 'surrogate',
  inferTypes: (inputs, { sourceCount }) => {
    if (inputs.length <= sourceCount) throw new ShapeError(`${inputs.length} inputs, ${sourceCount} of them sources: no result is left`);
    return inputs.slice(sourceCount);
  },
  reference: (inputs, { sourceCount }) => inputs.slice(sourceCount),
  gradient: {
    kind: 'surrogate',
    vjp: ({ cotangents, attributes: { vjp, sourceCount }, inputs }) => [
      ...vjp(cotangents),
      ...inputs.slice(sourceCount).map(() => undefined),
    ],
  },
  isView: true,
  toOnnx: ({ sourceCount }, inputs) => ({ aliases: inputs.slice(sourceCount).map((_, index) => sourceCount + index) }),
};

/** `results`, differentiated as functions of `sources` by `vjp` (straight-through and quantised gradients). Nothing is computed. */
export const surrogate = (sources: readonly Value[], results: readonly Value[], vjp: Surrogate['vjp']): readonly Value[] =>
  apply(surrogateOp, [...sources, ...results], { sourceCount: sources.length, vjp });
