import { UserError } from '../base/errors.ts';
import { gigabytes, memoryBytes } from '../base/memory.ts';
import type { Graph } from '../graph/graph.ts';
import type { Activations, LossSpecification } from './engine.ts';
import { programBytes } from './program-memory.ts';
import { lossGraph, type StepOptions } from './step-graphs.ts';

export interface TrainingGraph {
  readonly graph: Graph;
  readonly activations: Activations;
  /** About what the compiled program will hold. */
  readonly sizeBytes: number;
}

export interface TrainingChoice {
  readonly trainable: readonly string[];
  readonly activations: Activations | undefined;
  /** What all programs of a runner may take; absent: nothing is known of the memory there is. */
  readonly limitBytes: number | undefined;
  /** What this process may take. */
  readonly totalBytes?: number;
}

/** Several programs are held at once: one that keeps its activations may take so much of what they may take together. */
const keptShare = 0.6;

/**
 * The graph of a training step. Unless it is said what is kept for the way back, all of it is where the program then fits into its share of the limit,
 * and little where it does not: the gradients are the same bytes.
 */
export const trainingGraph = (
  options: StepOptions,
  loss: LossSpecification,
  { trainable, activations, limitBytes, totalBytes = memoryBytes() }: TrainingChoice,
): TrainingGraph => {
  const traced = (chosen: Activations): TrainingGraph => {
    const graph = lossGraph(options, loss, { trainable, activations: chosen });
    return { graph, activations: chosen, sizeBytes: programBytes(graph) };
  };
  const wished = traced(activations ?? 'kept');
  const chosen =
    activations === undefined && limitBytes !== undefined && wished.sizeBytes > keptShare * limitBytes ? traced('recomputed') : wished;
  if (limitBytes === undefined || chosen.sizeBytes <= totalBytes) return chosen;
  const { batch, sequence } = options.shape;
  const advice = chosen.activations === 'kept' ? 'Take engine.activations: recomputed,' : 'Take a smaller model,';
  throw new UserError(
    `A training step of ${batch} × ${sequence} tokens needs about ${gigabytes(chosen.sizeBytes)} beside the weights, and there are ${gigabytes(totalBytes)} in all. ${advice} or leave longer rows out (training.maximumLength).`,
  );
};
