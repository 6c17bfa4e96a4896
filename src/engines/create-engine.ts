import type { Engine, EngineSpecification } from './engine.ts';
import { inOrder } from './in-order.ts';
import { onnxEngine } from './onnx-engine.ts';
import { workerEngine } from './worker-engine.ts';

const layouts: Record<EngineSpecification['layout'], (specification: EngineSpecification) => Promise<Engine>> = {
  thread: async (specification) => inOrder(await onnxEngine(specification)),
  worker: workerEngine,
};

/** Makes an engine from its specification. Whoever makes it releases it. */
export const createEngine = (specification: EngineSpecification): Promise<Engine> => layouts[specification.layout](specification);

/**
 * How many runners should share so many threads: with one thread each none waits for another inside an operation, but each holds programs of
 * its own.
 */
export const runnerCountFor = (threadCount: number): number => Math.min(threadCount, 4);
