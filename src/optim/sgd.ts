import { type Arrays, type Optimiser, zerosLike } from './optimiser.ts';

export interface SgdOptions {
  readonly momentum: number;
  readonly weightDecay: number;
}

/**
 * SGD with momentum, as PyTorch computes it (no dampening, no Nesterov; the decay is part of the gradient):
 *   g ← g + λ·p;  b ← μ·b + g (b ← g at the first step);  p ← p − η·b
 */
export const sgd = ({ momentum, weightDecay }: SgdOptions): Optimiser => ({
  // A buffer of zeros makes the first step's μ·b + g the g that the formula asks for.
  init: (parameters) => ({ slots: { momentum: zerosLike(parameters) }, stepCount: 0 }),
  update: ({ parameters, gradients, state, learningRate, decays }) => {
    const next: Record<string, Float32Array> = {};
    const buffers: Record<string, Float32Array> = {};
    for (const [name, before] of Object.entries(parameters)) {
      const g = gradients[name] as Float32Array;
      const b = Float32Array.from((state.slots.momentum as Arrays)[name] as Float32Array);
      const p = Float32Array.from(before);
      const decay = decays(name) ? weightDecay : 0;
      for (let i = 0; i < p.length; i++) {
        const pi = p[i] as number;
        const bi = momentum * (b[i] as number) + (g[i] as number) + decay * pi;
        b[i] = bi;
        p[i] = pi - learningRate * bi;
      }
      next[name] = p;
      buffers[name] = b;
    }
    return { parameters: next, state: { slots: { momentum: buffers }, stepCount: state.stepCount + 1 } };
  },
});
