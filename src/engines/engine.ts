import type { DeviceName } from '../runtime/devices.ts';

/**
 * What trains and samples a model. The calls are asynchronous and everything that goes in or out is plain data, so that one interface
 * serves this thread, a worker thread and a cluster. Losses go by name; gradient accumulation is explicit: `forwardBackward` adds to it,
 * `optimStep` uses it up.
 */
export interface Engine {
  readonly information: EngineInformation;
  /**
   * Adds the gradients of the rows' summed loss to what was accumulated. Rows are taken in the order given and summed in it, so that one
   * call with eight rows and eight calls with one give the same sum up to rounding.
   * @param limits of all rows of the training, so that all its calls take programs of the same shapes; absent: of these rows
   */
  forwardBackward(rows: readonly TokenRow[], loss: LossSpecification, limits?: RowLimits): Promise<LossSums>;
  /** One optimiser step with the accumulated gradients divided by `tokenCount`; empties the accumulation. */
  optimStep(options: OptimStepOptions): Promise<OptimStepReport>;
  /** The loss of rows, without gradients: sums over each row by itself. `limits` as in `forwardBackward`. */
  forward(rows: readonly TokenRow[], loss: LossSpecification, limits?: RowLimits): Promise<LossSums[]>;
  /**
   * Answers to prompts of token ids, in their order, each from a random stream of its own: the batch it ran in changes nothing but
   * rounding. Ends early, with the signal's reason, when it is aborted; what was finished has been handed out by then.
   */
  sample(requests: readonly SampleRequest[], options: SampleOptions, control?: SampleControl): Promise<Sample[]>;
  /** The log-probability of every token given those before it, and on request the logits at chosen positions or named inner values. */
  score(rows: readonly ScoreRequest[]): Promise<Score[]>;
  /** Trainable parameters by name, as they are now. */
  parameters(): Promise<ParameterSet>;
  /** Parameters, optimiser state and step count: all that `restore` needs to continue to the same bytes. */
  state(): Promise<EngineState>;
  restore(state: EngineState): Promise<void>;
  /** Replaces the trainable parameters and forgets the optimiser's state and the accumulation. */
  load(parameters: ParameterSet): Promise<void>;
  /** Forgets all training: the parameters are those that a new engine of this seed would have (its adapter's, or its random weights'). */
  reset(seed: number): Promise<void>;
  release(): Promise<void>;
}

/** All that is needed to make an engine, as data that can be sent over a wire. */
export interface EngineSpecification {
  /** A folder with config.json and weights (safetensors, sharded or not, or one GGUF). */
  readonly modelFolder: string;
  readonly initialisation: Initialisation;
  readonly parameters: ParameterSelection;
  /** What frozen matrices are held in while training: their products cost less in fewer bits. */
  readonly precision: Precision;
  /** What they are held in otherwise: drawing answers, scoring, losses without gradients. Absent: float32. */
  readonly inferencePrecision?: Precision;
  /** What a training step keeps of its way forward. Absent: `kept` where the memory there is allows it. */
  readonly activations?: Activations;
  /** How 8-bit weights are signed; absent: as this machine multiplies exactly, which is found out. */
  readonly byteForm?: 'int8' | 'uint8';
  /** What this machine does not have is told when the engine is made, with how to get it. */
  readonly device: DeviceName;
  /** `worker` keeps the calling thread free while arithmetic runs; `thread` is for tests. */
  readonly layout: 'worker' | 'thread';
  /** Threads of the arithmetic; absent: as many as there are cores. */
  readonly threadCount?: number;
  /** The share of the machine's memory that compiled programs may take, where several engines compute at once; absent: a half. */
  readonly memoryShare?: number;
  /** Tokens that one run computes; absent: as many as the model's size allows. Models of which it computes few are packed. */
  readonly tokensPerRun?: number;
  /** Threads that compute micro-batches side by side, each with its share of `threadCount`. Absent: one. The results are the same bytes. */
  readonly runnerCount?: number;
}

/**
 * int8: frozen linear layers in 8 bits, with a scale for each activation row and weight channel, forward and in the input's gradient.
 * Adapters, norms, attention, the head, loss and optimiser are float32 always.
 */
export type Precision = 'float32' | 'int8';

/**
 * kept: all that the way back needs. recomputed: what goes into each layer, which is computed once more on the way back: a fraction of the memory, for
 * up to half as much time again (gradient checkpointing, Chen et al. 2016). The gradients are the same.
 */
export type Activations = 'kept' | 'recomputed';

/** Weights from the folder, or drawn anew for the folder's config.json. */
export type Initialisation = { readonly from: 'folder' } | { readonly from: 'random'; readonly seed: number };

/** What is trained: adapters (LoRA, Hu et al. 2021), every parameter, or nothing. */
export type ParameterSelection = ({ readonly kind: 'lora' } & LoraSpecification) | { readonly kind: 'all' } | { readonly kind: 'none' };

export interface LoraSpecification {
  readonly rank: number;
  /** The update is scaled by alpha / rank. */
  readonly alpha: number;
  /** Module names as PEFT names them: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj. */
  readonly targets: readonly string[];
  /** Dropout on the adapter's input while training. */
  readonly dropout: number;
  /** Draws A (uniform, Kaiming with a = √5); B is zero. */
  readonly seed: number;
}

export interface EngineInformation {
  readonly architecture: string;
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly trainableCount: number;
  readonly parameterCount: number;
}

/** A sequence with a weight per token. `weights[i]` weighs the prediction of `tokens[i]` from the tokens before it; `weights[0]` is 0. */
export interface TokenRow {
  readonly tokens: readonly number[];
  readonly weights: readonly number[];
  /** For losses against a teacher: its logits for each token of weight ≠ 0, in order, [weighted tokens, vocabulary]. */
  readonly teacherLogits?: Float32Array;
}

/** What no row of a set goes beyond. */
export interface RowLimits {
  readonly tokenCount: number;
  /** The share of a row's tokens that have a weight, 0 … 1. */
  readonly weightedShare: number;
}

export type LossSpecification =
  | { readonly name: 'cross-entropy' }
  /** α·CE + (1−α)·T²·KL(teacher ‖ student) at temperature T, on the same tokens (Hinton et al. 2015). */
  | { readonly name: 'distillation'; readonly alpha: number; readonly temperature: number };

/** Sums over weighted tokens, never means: means do not add up. `terms` holds a loss's parts by name, in the same sums. */
export interface LossSums {
  readonly sum: number;
  readonly tokenCount: number;
  readonly terms: Readonly<Record<string, number>>;
}

export interface OptimStepOptions {
  readonly optimiser: OptimiserSpecification;
  readonly learningRate: number;
  /** The number of weighted tokens of the whole step: accumulated sums are divided by it once. */
  readonly tokenCount: number;
  /** Gradients of a larger global norm are scaled down to it; absent: never. */
  readonly maximumNorm?: number;
}

export type OptimiserSpecification =
  | { readonly name: 'adamw'; readonly beta1: number; readonly beta2: number; readonly epsilon: number; readonly weightDecay: number }
  | { readonly name: 'sgd'; readonly momentum: number; readonly weightDecay: number };

export interface OptimStepReport {
  /** The global L2 norm of the gradients after division, before clipping. */
  readonly gradientNorm: number;
}

export interface SampleRequest {
  readonly tokens: readonly number[];
  /** Seeds this request's own random stream. */
  readonly seed: number;
}

export interface SampleOptions {
  readonly maximumTokens: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** Sampling ends at any of these; the end token is part of the sample's tokens. */
  readonly endTokens: readonly number[];
  /** Sequences decoded together; absent: chosen by the engine. */
  readonly batchSize?: number;
}

/** What does not change the samples: the only part of a call that is not data. */
export interface SampleControl {
  /** Hears of each sample as it is finished, in any order, so that it can be kept at once. */
  readonly onSample?: (index: number, sample: Sample) => void;
  readonly signal?: AbortSignal;
}

export interface Sample {
  readonly tokens: readonly number[];
  /** Of each token, at temperature 1, before any truncation of the distribution. */
  readonly logProbabilities: readonly number[];
  readonly finishReason: 'stop' | 'length';
}

export interface ScoreRequest {
  readonly tokens: readonly number[];
  /** Positions whose next-token logits are wanted: `logits` then has a row for each. */
  readonly logitPositions?: readonly number[];
  /** Names of inner values to hand out: `hidden.L` [sequence, width] after L layers, `attention.L` [heads, sequence, sequence]. */
  readonly taps?: readonly string[];
}

export interface Score {
  /** log p(tokens[i] | tokens before i); the first is 0, since nothing predicts it. */
  readonly logProbabilities: Float32Array;
  readonly logits?: Float32Array;
  readonly taps?: Readonly<Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>>;
}

/** Parameters by name, row-major float32. LoRA parameters are named as PEFT names them, without its `base_model.model.` prefix. */
export type ParameterSet = Readonly<Record<string, Parameter>>;

export interface Parameter {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface EngineState {
  readonly parameters: ParameterSet;
  /** Moments by name of the slot, each a set like the parameters. */
  readonly optimiser: Readonly<Record<string, ParameterSet>>;
  readonly stepCount: number;
}
