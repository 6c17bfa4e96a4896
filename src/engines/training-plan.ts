import { checkRow } from './check-rows.ts';
import type { Activations, EngineSpecification, LossSpecification, TokenRow } from './engine.ts';
import { graphModelOf, loadModel, weightBytes } from './loaded-model.ts';
import { type MicroBatch, type MicroBatchShape, microBatches, rowLimits, tokenBudgetOf } from './micro-batch.ts';
import { programBytes, runnerLayout } from './program-memory.ts';
import { lossGraph } from './step-graphs.ts';
import { trainingGraph } from './training-graph.ts';

/** What a training will run, and about how much memory it will take; nothing of it is computed. */
export interface TrainingPlan {
  /** Of all steps together. */
  readonly tokenCount: number;
  /** Places that are computed: tokens, and what fills sequences up. */
  readonly placeCount: number;
  readonly runs: readonly PlannedRuns[];
  readonly runnerCount: number;
  readonly memory: TrainingMemory;
}

/** Micro-batches of one shape. */
export interface PlannedRuns {
  readonly shape: MicroBatchShape;
  readonly activations: Activations;
  readonly count: number;
}

export interface TrainingMemory {
  /** Node, ONNX Runtime, and their threads. */
  readonly processBytes: number;
  readonly weightsBytes: number;
  /** Compiled programs with what they hold while they run, of all runners. */
  readonly programsBytes: number;
  /** What is trained: values, gradients, the optimiser's state, copies on the way to runners and back. */
  readonly stateBytes: number;
  readonly totalBytes: number;
}

/** @param steps the rows of each optimiser step */
export const planTraining = async (
  specification: EngineSpecification,
  steps: readonly (readonly TokenRow[])[],
  developmentRows: readonly TokenRow[],
  loss: LossSpecification,
): Promise<TrainingPlan> => {
  const model = await loadModel(specification);
  const tokenBudget = tokenBudgetOf(model.decoder, specification);
  const rows = steps.flat();
  [...rows, ...developmentRows].forEach((row, index) => checkRow(row, index, model.decoder, { name: 'cross-entropy' }));
  const limits = rowLimits(rows);
  const batches = steps.flatMap((step) => microBatches(step, tokenBudget, limits));
  const { runnerCount, limitBytes } = runnerLayout(specification);
  const training = byShape(batches).map(({ shape, count }) => {
    const choice = { trainable: Object.keys(model.trainable), activations: specification.activations, limitBytes };
    const { activations, sizeBytes } = trainingGraph({ ...graphModelOf(model, specification, 'training'), shape }, loss, choice);
    return { shape, count, activations, sizeBytes };
  });
  const measuring = byShape(microBatches(developmentRows, tokenBudget)).map(({ shape }) =>
    programBytes(lossGraph({ ...graphModelOf(model, specification, 'inference'), shape }, { name: 'cross-entropy' })),
  );
  const sizes = [...training.map(({ sizeBytes }) => sizeBytes), ...measuring];
  const isMeasured = developmentRows.length > 0 && model.frozen.inference !== model.frozen.training;
  const parts = {
    processBytes: nodeBytes + runnerCount * threadBytes,
    weightsBytes: weightBytes(model.frozen.training.weights) + (isMeasured ? weightBytes(model.frozen.inference.weights) : 0),
    programsBytes: runnerCount * Math.min(sum(sizes), Math.max(limitBytes ?? Number.POSITIVE_INFINITY, ...sizes)),
    stateBytes: sum(Object.values(model.trainable).map(({ data }) => data.byteLength)) * (valuesPerParameter + 2 * runnerCount),
  };
  return {
    tokenCount: sum(rows.map(({ tokens }) => tokens.length)),
    placeCount: sum(batches.map(({ shape }) => shape.batch * shape.sequence)),
    runs: training.map(({ shape, activations, count }) => ({ shape, activations, count })),
    runnerCount,
    memory: { ...parts, totalBytes: sum(Object.values(parts)) },
  };
};

/** Node 24 with ONNX Runtime, the engine in a thread of its own, before a model is opened. */
const nodeBytes = 200 * 2 ** 20;
/** One more thread with a runner in it. */
const threadBytes = 40 * 2 ** 20;
/** The first values, those of now, summed gradients, and an optimiser's two moments. */
const valuesPerParameter = 5;

const byShape = (batches: readonly MicroBatch[]): { readonly shape: MicroBatchShape; readonly count: number }[] =>
  [...Map.groupBy(batches, ({ shape }) => JSON.stringify(shape)).values()]
    .map((same) => ({ shape: (same[0] as MicroBatch).shape, count: same.length }))
    .sort((a, b) => b.count - a.count);

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
