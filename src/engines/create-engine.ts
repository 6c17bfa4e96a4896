import type { Engine, EngineSpecification } from './engine.ts';
import { onnxEngine } from './onnx-engine.ts';

/** Makes an engine from its specification. Whoever makes it releases it. */
export const createEngine = async (specification: EngineSpecification): Promise<Engine> => onnxEngine(specification);
