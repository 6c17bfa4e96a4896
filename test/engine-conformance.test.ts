import { createEngine } from '../src/engines/create-engine.ts';
import { engineConformance } from './engine-conformance.ts';

engineConformance({ name: 'ONNX Runtime in this thread', create: createEngine, layout: 'thread' });
engineConformance({ name: 'ONNX Runtime in a worker thread', create: createEngine, layout: 'worker' });
