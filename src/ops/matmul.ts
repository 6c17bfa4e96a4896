import { ShapeError } from '../base/errors.ts';
import { broadcastShape, elementCount, type HostTensor, type Shape, type TensorType } from '../graph/tensor-type.ts';
import { apply, type Op, type Value } from '../graph/value.ts';
import { sumTo } from './broadcasting.ts';
import { broadcastOffsets, numbersOf, packTensor } from './host-tensors.ts';
import { reshape, transpose } from './shape.ts';

export interface Transposition {
  /** Whether the last two axes of `a` change places first. */
  readonly transposeA: boolean;
  /** Whether the last two axes of `b` change places first. */
  readonly transposeB: boolean;
}

type Product = Op<readonly [Value, Value], readonly [Value], Transposition>;

/** The type of op(a)·op(b), or why there is none. */
const productType = (a: TensorType, b: TensorType, { transposeA, transposeB }: Transposition): TensorType => {
  if (a.dataType !== b.dataType) throw new ShapeError('operands of different element types: cast one');
  if (a.shape.length < 2 || b.shape.length < 2) throw new ShapeError('matrices have at least two axes');
  const [rows, innerA] = lastTwo(a.shape, transposeA);
  const [innerB, columns] = lastTwo(b.shape, transposeB);
  if (innerA !== innerB) {
    throw new ShapeError(
      `[${a.shape.join(', ')}]${transposeA ? 'ᵀ' : ''} times [${b.shape.join(', ')}]${transposeB ? 'ᵀ' : ''}: ${innerA} columns meet ${innerB} rows`,
    );
  }
  return { dataType: a.dataType, shape: [...broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), rows, columns] };
};

const lastTwo = (shape: Shape, transposed: boolean): readonly [number, number] => {
  const [first, second] = shape.slice(-2) as [number, number];
  return transposed ? [second, first] : [first, second];
};

const productOf = (a: HostTensor, b: HostTensor, flags: Transposition): HostTensor => {
  const { shape } = productType(a, b, flags);
  const batchShape = shape.slice(0, -2);
  const [rows, inner] = lastTwo(a.shape, flags.transposeA);
  const columns = shape.at(-1) as number;
  const [left, right] = [numbersOf(a), numbersOf(b)];
  const [leftBatches, rightBatches] = [
    broadcastOffsets(a.shape.slice(0, -2), batchShape),
    broadcastOffsets(b.shape.slice(0, -2), batchShape),
  ];
  const result = new Float64Array(elementCount(shape));
  for (let batch = 0; batch < leftBatches.length; batch++) {
    const leftStart = (leftBatches[batch] as number) * rows * inner;
    const rightStart = (rightBatches[batch] as number) * inner * columns;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (let k = 0; k < inner; k++) {
          const x = left[leftStart + (flags.transposeA ? k * rows + row : row * inner + k)] as number;
          const y = right[rightStart + (flags.transposeB ? column * inner + k : k * columns + column)] as number;
          sum += x * y;
        }
        result[(batch * rows + row) * columns + column] = sum;
      }
    }
  }
  return packTensor(a.dataType, shape, result);
};

/**
 * The cotangents of y = op(a)·op(b), as products of the same kind in which nothing is transposed by itself:
 * da = g·op(b)ᵀ, or op(b)·gᵀ where a was transposed; db = op(a)ᵀ·g, or gᵀ·op(a) where b was.
 */
const leftCotangent = (multiply: Multiply, g: Value, b: Value, { transposeA, transposeB }: Transposition): Value =>
  transposeA ? multiply(b, g, { transposeA: transposeB, transposeB: true }) : multiply(g, b, { transposeB: !transposeB });
const rightCotangent = (multiply: Multiply, g: Value, a: Value, { transposeA, transposeB }: Transposition): Value =>
  transposeB ? multiply(g, a, { transposeA: true, transposeB: transposeA }) : multiply(a, g, { transposeA: !transposeA });

type Multiply = (a: Value, b: Value, flags?: Partial<Transposition>) => Value;

export const matmulOp: Product = {
  name: 'matmul',
  inferTypes: ([a, b], flags) => [productType(a, b, flags)],
  reference: ([a, b], flags) => [productOf(a, b, flags)],
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [a, b], cotangent: g, attributes, wants }) => [
      wants(0) ? sumTo(leftCotangent(matmul, g, b, attributes), a.type.shape) : undefined,
      wants(1) ? sharedRightCotangent(g, a, b, attributes) : undefined,
    ],
  },
  toOnnx: ({ transposeA, transposeB }) =>
    transposeA || transposeB
      ? {
          opType: 'FusedMatMul',
          domain: 'com.microsoft',
          attributes: { transA: { int: transposeA ? 1 : 0 }, transB: { int: transposeB ? 1 : 0 } },
        }
      : { opType: 'MatMul' },
  // WebGPU has no FusedMatMul.
  inSimplerOps: ([a, b], { transposeA, transposeB }) => [matmul(transposeA ? transposed(a) : a, transposeB ? transposed(b) : b)],
};

/** The last two axes in each other's place. */
const transposed = (x: Value): Value => {
  const axes = [...x.type.shape.keys()];
  return transpose(x, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
};

/** db. Where every batch shares one matrix b, the batches of a are rows of one product, instead of many products that are summed. */
const sharedRightCotangent = (g: Value, a: Value, b: Value, flags: Transposition): Value => {
  if (b.type.shape.length > 2 || flags.transposeA) return sumTo(batchedRightCotangent(g, a, flags), b.type.shape);
  const rowsOf = (value: Value): Value => reshape(value, [-1, value.type.shape.at(-1) as number]);
  return rightCotangent(gemm, rowsOf(g), rowsOf(a), flags);
};

/**
 * db over batches. ONNX Runtime's product with a transposed left side takes twice the time of a plain one, and of aᵀ·g one side is often much
 * larger than the other (attention's probabilities beside its values): the smaller is transposed instead, (gᵀ·a)ᵀ, and the result.
 */
const batchedRightCotangent = (g: Value, a: Value, flags: Transposition): Value => {
  const [transposedSide, otherSide] = flags.transposeB ? [g, a] : [a, g]; // db is transposedSideᵀ·otherSide
  const isMuchLarger = (transposedSide.type.shape.at(-1) as number) >= 2 * (otherSide.type.shape.at(-1) as number);
  if (flags.transposeA || !isMuchLarger) return rightCotangent(matmul, g, a, flags);
  return swapped(matmul(swapped(otherSide), transposedSide));
};

/** The last two axes in each other's place. */
const swapped = (value: Value): Value => {
  const axes = [...value.type.shape.keys()];
  return transpose(value, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
};

/** op(a)·op(b) over the last two axes, the others broadcast. */
export const matmul: Multiply = (a, b, { transposeA = false, transposeB = false } = {}) =>
  apply(matmulOp, [a, b], { transposeA, transposeB })[0];

export const gemmOp: Product = {
  name: 'gemm',
  inferTypes: ([a, b], flags) => {
    if (a.shape.length !== 2 || b.shape.length !== 2) throw new ShapeError('gemm takes matrices of two axes: matmul takes more');
    return [productType(a, b, flags)];
  },
  reference: ([a, b], flags) => [productOf(a, b, flags)],
  gradient: {
    kind: 'exact',
    vjp: ({ inputs: [a, b], cotangent: g, attributes, wants }) => [
      wants(0) ? leftCotangent(gemm, g, b, attributes) : undefined,
      wants(1) ? rightCotangent(gemm, g, a, attributes) : undefined,
    ],
  },
  toOnnx: ({ transposeA, transposeB }) => ({
    opType: 'Gemm',
    attributes: { transA: { int: transposeA ? 1 : 0 }, transB: { int: transposeB ? 1 : 0 } },
  }),
};

/** op(a)·op(b) of two matrices: the fastest product that takes transposed operands. */
export const gemm: Multiply = (a, b, { transposeA = false, transposeB = false } = {}) =>
  apply(gemmOp, [a, b], { transposeA, transposeB })[0];
