import type { Random } from '../base/random.ts';
import type { HostTensor, Shape } from '../graph/tensor-type.ts';
import { elementCount } from '../graph/tensor-type.ts';

/** 0 with probability p, else 1 / (1 − p), so that the expectation stays (Srivastava et al. 2014). */
export const dropoutMask = (shape: Shape, p: number, random: Random): HostTensor => {
  const data = new Float32Array(elementCount(shape));
  const kept = 1 / (1 - p);
  for (let index = 0; index < data.length; index++) data[index] = random.uniform() < p ? 0 : kept;
  return { dataType: 'float32', shape, data };
};
