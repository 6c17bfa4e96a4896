import type { Arrays } from './optimiser.ts';

/** The L2 norm over all arrays together, summed in float64. */
export const globalNorm = (arrays: Arrays): number => {
  let sum = 0;
  for (const data of Object.values(arrays)) for (const value of data) sum += value * value;
  return Math.sqrt(sum);
};

/**
 * The factor that brings a gradient of this norm down to `maximumNorm`: min(1, maximum / (norm + 1e-6)), PyTorch's rule, whose 1e-6 keeps
 * a norm of 0 finite. 1 where no maximum is set.
 */
export const clipFactor = (norm: number, maximumNorm: number | undefined): number =>
  maximumNorm === undefined ? 1 : Math.min(1, maximumNorm / (norm + 1e-6));
