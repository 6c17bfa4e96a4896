import { ShapeError } from '../base/errors.ts';
import { describeType, elementCount, type HostTensor, sameShape, type TensorType } from '../graph/tensor-type.ts';
import { apply, type Op, type Value } from '../graph/value.ts';
import { neg } from './elementwise.ts';
import { numbersOf, packTensor } from './host-tensors.ts';

type RotaryInputs = readonly [x: Value, positions: Value, cosine: Value, sine: Value];

const checkTables = (width: number, cosine: TensorType, sine: TensorType): void => {
  if (width % 2 !== 0 || cosine.shape.length !== 2 || cosine.shape[1] !== width / 2 || !sameShape(cosine.shape, sine.shape)) {
    throw new ShapeError(
      `tables of ${describeType(cosine)} and ${describeType(sine)} for heads of width ${width}, which want [positions, ${width / 2}]`,
    );
  }
};

/** Turns the pair (x[i], x[i + width/2]) by the angle whose cosine and sine are in the tables. */
const rotatedRow = (row: ArrayLike<number>, cosine: ArrayLike<number>, sine: ArrayLike<number>): number[] => {
  const half = row.length / 2;
  const low = (i: number): number => row[i] as number;
  const high = (i: number): number => row[i + half] as number;
  return Array.from(row, (_, column) => {
    const i = column % half;
    const [c, s] = [cosine[i] as number, sine[i] as number];
    return column < half ? low(i) * c - high(i) * s : high(i) * c + low(i) * s;
  });
};

const tableRow = (table: HostTensor, values: ArrayLike<number>, position: number): ArrayLike<number> => {
  const [count, width] = table.shape as [number, number];
  if (!(position >= 0 && position < count)) throw new ShapeError(`position ${position} in tables of ${count}`);
  return Array.prototype.slice.call(values, position * width, (position + 1) * width);
};

export const rotaryEmbeddingOp: Op<RotaryInputs, readonly [Value]> = {
  name: 'rotaryEmbedding',
  inferTypes: ([x, positions, cosine, sine]) => {
    if (x.shape.length !== 4) throw new ShapeError(`x is [batch, heads, sequence, width], not [${x.shape.join(', ')}]`);
    const [batch, , sequence, width] = x.shape as [number, number, number, number];
    if (positions.dataType !== 'int64' || !sameShape(positions.shape, [batch, sequence])) {
      throw new ShapeError(`positions are int64[${batch}, ${sequence}] for x of [${x.shape.join(', ')}], not ${describeType(positions)}`);
    }
    checkTables(width, cosine, sine);
    return [x];
  },
  reference: ([x, positions, cosine, sine]) => {
    const [, heads, sequence, width] = x.shape as [number, number, number, number];
    const [values, places, cosines, sines] = [numbersOf(x), numbersOf(positions), numbersOf(cosine), numbersOf(sine)];
    const result = new Float64Array(values.length);
    for (let row = 0; row < elementCount(x.shape.slice(0, 3)); row++) {
      const place = places[Math.floor(row / (heads * sequence)) * sequence + (row % sequence)] as number;
      const cells = Array.prototype.slice.call(values, row * width, (row + 1) * width);
      result.set(rotatedRow(cells, tableRow(cosine, cosines, place), tableRow(sine, sines, place)), row * width);
    }
    return [packTensor(x.dataType, x.shape, result)];
  },
  // A rotation's transpose is the rotation back. The tables are constants of the model: nothing flows into them.
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [, positions, cosine, sine], cotangent: g }) => [rotaryEmbedding(g, positions, cosine, neg(sine))],
  },
  toOnnx: () => ({ opType: 'RotaryEmbedding', domain: 'com.microsoft', attributes: { interleaved: { int: 0 } } }),
};

/**
 * Rotary position embedding (Su et al. 2021) in Hugging Face's layout, where feature i is paired with feature i + width/2.
 *
 * @param x [batch, heads, sequence, width]
 * @param positions int64 [batch, sequence]
 * @param cosine, sine tables of [positions, width/2]; without gradient
 */
export const rotaryEmbedding = (x: Value, positions: Value, cosine: Value, sine: Value): Value =>
  apply(rotaryEmbeddingOp, [x, positions, cosine, sine], {})[0];
