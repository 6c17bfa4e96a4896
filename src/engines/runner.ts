import type { Arrays } from '../optim/optimiser.ts';
import type { LossSpecification, Sample, SampleControl, SampleOptions, SampleRequest, Score, ScoreRequest, TokenRow } from './engine.ts';
import type { MicroBatchShape } from './micro-batch.ts';

/**
 * What computes for an engine. It holds compiled programs and the weights that are baked into them; parameters are given to it. It keeps
 * nothing else between calls, so that several runners of one engine are as good as one.
 */
export interface Runner {
  /** The trainable parameters that every later call computes with. */
  adopt(parameters: Arrays): Promise<void>;
  losses(task: LossTask): Promise<LossOutcome>;
  sample(requests: readonly SampleRequest[], options: SampleOptions & OwnThreads, control?: SampleControl): Promise<Sample[]>;
  score(request: ScoreRequest & OwnThreads): Promise<Score>;
  release(): Promise<void>;
}

/** Threads of this call, where it may have more than the runner's share because no other runner has work. */
export interface OwnThreads {
  readonly threadCount?: number;
}

/** One micro-batch, whose shape says what its lanes are filled up to. */
export interface LossTask extends OwnThreads {
  /** The rows of each sequence of the batch. */
  readonly lanes: readonly (readonly TokenRow[])[];
  readonly shape: MicroBatchShape;
  readonly loss: LossSpecification;
  /** Absent: no gradients are wanted. */
  readonly training?: { readonly dropout: DropoutStream };
}

/** Which random numbers a run's dropout draws: every run of a training has its own. */
export interface DropoutStream {
  readonly seed: number;
  readonly step: number;
  /** Counted from the step's first. */
  readonly run: number;
}

export interface LossOutcome {
  /** Each weighted token's value by the loss's parts and `total`, rows in their order, tokens in theirs. */
  readonly columns: Readonly<Record<string, Float32Array>>;
  /** Summed over the micro-batch; absent without training. */
  readonly gradients?: Arrays;
}
