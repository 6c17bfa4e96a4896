import { UserError } from '../base/errors.ts';
import type { Graph } from '../graph/graph.ts';
import { elementCount } from '../graph/tensor-type.ts';
import type { Value } from '../graph/value.ts';
import { type NodeRecord, profiled } from '../runtime/profile.ts';
import type { Activations, EngineSpecification, LossSpecification, TokenRow } from './engine.ts';
import { compileOptionsOf, graphModelOf, hostParameter, loadModel } from './loaded-model.ts';
import { type MicroBatch, type MicroBatchShape, microBatches, packed, tokenBudgetOf } from './micro-batch.ts';
import { runnerLayout } from './program-memory.ts';
import { trainingGraph } from './training-graph.ts';

/** Where the time of one micro-batch's forward and backward pass goes, on one thread. */
export interface StepProfile {
  readonly shape: MicroBatchShape;
  readonly activations: Activations;
  readonly tokenCount: number;
  readonly durationMs: number;
  /** Longest first. */
  readonly byOp: readonly ProfileLine[];
  /** From the embedding up: each layer's way forward and back. */
  readonly byLayer: readonly ProfileLine[];
}

export interface ProfileLine {
  readonly name: string;
  readonly durationMs: number;
  /** Of the whole, 0 … 1. */
  readonly share: number;
  /** How often an op runs, or how many ops a layer has. */
  readonly count: number;
  /** Multiplications and additions of its matrix products, a second, in 10⁹; absent where it has none. */
  readonly gigaflops?: number;
}

const measuredRuns = 3;

/** Runs the largest micro-batch of the rows a few times, after one to warm up, and reads ONNX Runtime's own clock. */
export const profileStep = async (
  specification: EngineSpecification,
  rows: readonly TokenRow[],
  loss: LossSpecification,
): Promise<StepProfile> => {
  const model = await loadModel(specification);
  const { decoder } = model;
  const tokensOf = ({ shape }: MicroBatch) => shape.batch * shape.sequence;
  const [largest] = microBatches(rows, tokenBudgetOf(decoder, specification)).sort((a, b) => tokensOf(b) - tokensOf(a));
  if (largest === undefined) throw new UserError('There are no rows to profile: the data is empty, or every row was left out.');
  const frozen = model.frozen.training;
  const graphed = graphModelOf(model, specification, 'training');
  const { graph, activations } = trainingGraph(
    { ...graphed, lora: graphed.lora && { ...graphed.lora, dropout: 0 }, shape: largest.shape },
    loss,
    { trainable: Object.keys(model.trainable), activations: specification.activations, limitBytes: runnerLayout(specification).limitBytes },
  );
  const chosen = largest.lanes.map((lane) => lane.map((index) => rows[index] as TokenRow));
  const inputs = {
    ...Object.fromEntries(Object.entries(model.trainable).map(([name, parameter]) => [name, hostParameter(parameter)])),
    ...packed(chosen, largest.shape, decoder.vocabularySize),
  };
  const records = await profiled(graph, { ...compileOptionsOf(frozen), threadCount: 1 }, async (program) => {
    for (let run = 0; run <= measuredRuns; run++) await program.run(inputs);
  });
  const perRun = records.length / (measuredRuns + 1);
  const measured = records.slice(perRun);
  return {
    shape: largest.shape,
    activations,
    tokenCount: chosen.flat().reduce((sum, { tokens }) => sum + tokens.length, 0),
    durationMs: measured.reduce((sum, { durationMs }) => sum + durationMs, 0) / measuredRuns,
    byOp: linesOf(measured, ({ opType }) => opType).sort((a, b) => b.durationMs - a.durationMs),
    byLayer: layerLines(measured, graph, decoder.layerCount),
  };
};

const linesOf = (records: readonly NodeRecord[], keyOf: (record: NodeRecord) => string): ProfileLine[] => {
  const total = records.reduce((sum, { durationMs }) => sum + durationMs, 0);
  return [...Map.groupBy(records, keyOf)].map(([name, group]) => {
    const durationMs = group.reduce((sum, record) => sum + record.durationMs, 0);
    const flops = group.reduce((sum, record) => sum + productFlops(record), 0);
    return {
      name,
      durationMs: durationMs / measuredRuns,
      share: durationMs / total,
      count: group.length / measuredRuns,
      ...(flops > 0 && { gigaflops: flops / durationMs / 1e6 }),
    };
  });
};

const products = new Set(['MatMul', 'FusedMatMul', 'Gemm', 'MatMulIntegerToFloat']);

/** 2·|out|·K: with |A| = b·M·K, |B| = c·K·N and |out| = b·M·N, K² = |A|·|B| / (|out|·c), whichever side is transposed. */
const productFlops = ({ opType, inputShapes: [a, b], outputShapes: [out] }: NodeRecord): number => {
  if (!products.has(opType) || a === undefined || b === undefined || out === undefined) return 0;
  const size = elementCount(out);
  const batches = elementCount(b.slice(0, -2));
  return size === 0 ? 0 : 2 * size * Math.sqrt((elementCount(a) * elementCount(b)) / (size * batches));
};

/** Groups nodes by the layer that they stand in, by the numbers of our nodes in their names; what was made of several keeps the first's. */
const layerLines = (records: readonly NodeRecord[], graph: Graph, layerCount: number): ProfileLine[] => {
  const layers = nodeLayers(graph, layerCount);
  const other = 'not told apart';
  const keyOf = ({ name }: NodeRecord): string => layers[Number(/^[A-Za-z]+_(\d+)/.exec(name)?.[1] ?? Number.NaN)] ?? other;
  const lines = linesOf(records, keyOf);
  const order = ['embedding', ...Array.from({ length: layerCount }, (_, layer) => [`layer ${layer}`, `layer ${layer}, back`]).flat()];
  const named = [...order, 'head and loss', 'head and loss, back', other];
  return named.flatMap((name) => lines.find((line) => line.name === name) ?? []);
};

/**
 * The layer of each node. On the way forward it is the highest of those that a node's inputs come from; the way back begins after the loss, and a
 * node there takes a cotangent from above and values of its own layer, the lowest.
 */
const nodeLayers = (graph: Graph, layerCount: number): string[] => {
  const layerOf = new Map<Value, number>();
  for (const [name, value] of graph.inputs) {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    if (layer !== undefined) layerOf.set(value, Number(layer));
    else if (name === 'sources') layerOf.set(value, layerCount);
  }
  const total = graph.outputs.get('total');
  let isBack = false;
  return graph.nodes.map((node) => {
    const known = node.inputs.flatMap((value) => (value === undefined ? [] : (layerOf.get(value) ?? [])));
    const back = isBack ? ', back' : '';
    if (total !== undefined && node.outputs.includes(total)) isBack = true;
    if (known.length === 0) return back === '' ? 'embedding' : `head and loss${back}`;
    const layer = back === '' ? Math.max(...known) : Math.min(...known);
    for (const value of node.outputs) layerOf.set(value, layer);
    return layer < layerCount ? `layer ${layer}${back}` : `head and loss${back}`;
  });
};
