import { type Arrays, type Optimiser, zerosLike } from './optimiser.ts';

export interface AdamwOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
}

/**
 * AdamW (Loshchilov and Hutter 2019, algorithm 2, as PyTorch computes it):
 *   p ← p·(1 − η·λ);  m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²
 *   p ← p − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
 */
export const adamw = ({ beta1, beta2, epsilon, weightDecay }: AdamwOptions): Optimiser => ({
  init: (parameters) => ({ slots: { m: zerosLike(parameters), v: zerosLike(parameters) }, stepCount: 0 }),
  update: ({ parameters, gradients, state, learningRate, decays }) => {
    const stepCount = state.stepCount + 1;
    const stepSize = learningRate / (1 - beta1 ** stepCount);
    const rootCorrection = Math.sqrt(1 - beta2 ** stepCount);
    const next: Record<string, Float32Array> = {};
    const firsts: Record<string, Float32Array> = {};
    const seconds: Record<string, Float32Array> = {};
    for (const [name, before] of Object.entries(parameters)) {
      const g = gradients[name] as Float32Array;
      const m = Float32Array.from((state.slots.m as Arrays)[name] as Float32Array);
      const v = Float32Array.from((state.slots.v as Arrays)[name] as Float32Array);
      const p = Float32Array.from(before);
      const kept = decays(name) ? 1 - learningRate * weightDecay : 1;
      for (let i = 0; i < p.length; i++) {
        const gi = g[i] as number;
        const mi = beta1 * (m[i] as number) + (1 - beta1) * gi;
        const vi = beta2 * (v[i] as number) + (1 - beta2) * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = (p[i] as number) * kept - (stepSize * mi) / (Math.sqrt(vi) / rootCorrection + epsilon);
      }
      next[name] = p;
      firsts[name] = m;
      seconds[name] = v;
    }
    return { parameters: next, state: { slots: { m: firsts, v: seconds }, stepCount } };
  },
});
