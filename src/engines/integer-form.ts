import { UserError } from '../base/errors.ts';
import { graphOf } from '../graph/graph.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import { input } from '../graph/value.ts';
import type { ByteForm } from '../nn/int8-linear.ts';
import { integerProduct } from '../ops/quantised.ts';
import { compileProgram } from '../runtime/onnx-program.ts';

/** (a − 128)·b with bytes of a form, as the machine computes it: [rows, inner] times [inner, columns] of equal numbers each. */
export type ByteProduct = (form: ByteForm, a: number, b: number, shape: readonly [number, number, number]) => Promise<ArrayLike<number>>;

/**
 * The form of weights with which this machine multiplies bytes exactly. Without VNNI, x86 processors add pairs of u8 × s8 products in 16 bits,
 * which saturates for large numbers and says nothing; u8 × u8 is exact there, and slower. Found out by the worst case.
 */
export const integerForm = async (product: ByteProduct = onnxByteProduct): Promise<ByteForm> => {
  for (const form of ['int8', 'uint8'] as const) {
    if (await isExact(form, product)) return form;
  }
  throw new UserError(
    'This machine multiplies bytes wrongly in every form that there is: precision int8 cannot be had. Take precision: float32.',
  );
};

const shapes: readonly (readonly [number, number, number])[] = [
  [1, 256, 16], // one row has kernels of its own
  [8, 256, 16],
];

const isExact = async (form: ByteForm, product: ByteProduct): Promise<boolean> => {
  for (const shape of shapes) {
    for (const a of [255, 0]) {
      for (const b of [127, -127]) {
        const expected = (a - 128) * b * shape[1];
        if (!Array.from(await product(form, a, b, shape)).every((value) => value === expected)) return false;
      }
    }
  }
  return true;
};

const onnxByteProduct: ByteProduct = async (form, a, b, [rows, inner, columns]) => {
  const stored = form === 'int8' ? b : b + 128;
  const bytes: HostTensor = {
    dataType: form,
    shape: [inner, columns],
    data: form === 'int8' ? new Int8Array(inner * columns).fill(stored) : new Uint8Array(inner * columns).fill(stored),
  };
  const scales: HostTensor = { dataType: 'float32', shape: [columns], data: new Float32Array(columns).fill(1) };
  const graph = graphOf({
    y: integerProduct(
      input('a', { dataType: 'uint8', shape: [rows, inner] }),
      input('b', { dataType: form, shape: [inner, columns] }),
      input('scales', { dataType: 'float32', shape: [columns] }),
    ),
  });
  const weights = new Map([
    ['b', bytes],
    ['scales', scales],
  ]);
  const program = await compileProgram(graph, { threadCount: 1, weights });
  try {
    const { y } = await program.run({ a: { dataType: 'uint8', shape: [rows, inner], data: new Uint8Array(rows * inner).fill(a) } });
    return Array.from(y?.data ?? [], Number);
  } finally {
    await program.release();
  }
};
