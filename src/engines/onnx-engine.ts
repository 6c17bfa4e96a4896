import { totalmem } from 'node:os';
import { InternalError, UserError } from '../base/errors.ts';
import { randomFrom } from '../base/random.ts';
import type { Graph } from '../graph/graph.ts';
import { peakBytes } from '../graph/peak-bytes.ts';
import { type HostTensor, sameShape } from '../graph/tensor-type.ts';
import { isAdapted } from '../nn/scope.ts';
import { adamw } from '../optim/adamw.ts';
import { clipFactor, globalNorm } from '../optim/clip.ts';
import type { Arrays, Optimiser, OptimiserState } from '../optim/optimiser.ts';
import { sgd } from '../optim/sgd.ts';
import { compileProgram } from '../runtime/onnx-program.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket, lossBucket } from './buckets.ts';
import { checkRow, checkSampleRequests, checkScoreRequest } from './check-rows.ts';
import { dropoutMask } from './dropout.ts';
import type {
  Engine,
  EngineSpecification,
  EngineState,
  LossSpecification,
  LossSums,
  OptimiserSpecification,
  ParameterSet,
  Score,
  ScoreRequest,
  TokenRow,
} from './engine.ts';
import { hostParameter, type LoadedModel, loadModel } from './loaded-model.ts';
import { type MicroBatch, type MicroBatchShape, microBatches, packed } from './micro-batch.ts';
import { programCache } from './program-cache.ts';
import { sampleAll } from './sampler.ts';
import { decodeGraph, dropoutName, gradientName, logitsGraph, lossGraph, prefillGraph, termName } from './step-graphs.ts';

/** Activations of about this many numbers (tokens × width × layers) are computed in one run: small models take many rows at once. */
const activationBudget = 2 ** 23;

/**
 * The share of the machine's memory that an engine's compiled programs may take by `peakBytes`; they hold half as much again, and several
 * engines work side by side.
 */
const programMemoryShare = 1 / 10;

const optimisers: {
  readonly [Name in OptimiserSpecification['name']]: (options: Extract<OptimiserSpecification, { name: Name }>) => Optimiser;
} = {
  adamw,
  sgd,
};

/** Trains and samples with ONNX Runtime in the calling thread, which each run blocks: `createEngine` puts it into a worker. */
export const onnxEngine = async (specification: EngineSpecification): Promise<Engine> => {
  const model = await loadModel(specification);
  return engineOf(specification, model);
};

const engineOf = (specification: EngineSpecification, model: LoadedModel): Engine => {
  const { decoder } = model;
  const lora = specification.parameters.kind === 'lora' ? specification.parameters : undefined;
  const names = Object.keys(model.trainable);
  const shapes = new Map(Object.entries(model.trainable).map(([name, { shape }]) => [name, shape]));
  const programs = programCache(totalmem() * programMemoryShare);
  const frozenBytes = model.frozen
    .values()
    .reduce((sum, weight) => sum + ('location' in weight ? weight.byteLength : weight.data.byteLength), 0);
  const tokenBudget = Math.max(1, Math.floor(activationBudget / (decoder.width * decoder.layerCount)));

  // The engine's state, replaced whole by every call that changes it.
  let parameters: Arrays = arraysOf(model.trainable);
  let optimiser: OptimiserState | undefined;
  let accumulated: Record<string, Float32Array> | undefined;
  let stepCount = 0;
  let runsSinceStep = 0;
  let dropoutSeed = lora?.seed ?? 0;

  const compile = (key: string, graph: () => Graph, prepack = false): Promise<Program> =>
    programs.get(key, () => {
      const traced = graph();
      return {
        sizeBytes: peakBytes(traced) + (prepack ? frozenBytes : 0),
        compile: () =>
          compileProgram(traced, {
            weights: model.frozen,
            // A packed copy per program would multiply the model's memory: programs share the mapped file instead, but for the one that
            // decodes, whose few rows would have every matrix packed anew at every token.
            ...(model.weightsFolder !== undefined && { weightsFolder: model.weightsFolder, prepack }),
            ...(specification.threadCount !== undefined && { threadCount: specification.threadCount }),
          }),
      };
    });
  const parameterInputs = (): Record<string, HostTensor> =>
    Object.fromEntries(
      names.map((name) => [name, hostParameter({ shape: shapes.get(name) as readonly number[], data: parameters[name] as Float32Array })]),
    );

  const lossProgram = (shape: MicroBatchShape, loss: LossSpecification, training: boolean) => {
    const graph = () => lossGraph({ decoder, lora, shape }, loss, training ? names : []);
    return compile(JSON.stringify([training ? 'train' : 'loss', shape, loss]), graph);
  };

  const dropoutInputs = ({ batch, sequence }: MicroBatchShape): Record<string, HostTensor> => {
    if (lora === undefined || lora.dropout === 0) return {};
    const targets = new Set(lora.targets);
    const adapted = [...decoder.linearModules].filter(([module]) => isAdapted(module, targets));
    return Object.fromEntries(
      adapted.map(([module, [, inputCount]]) => {
        const name = dropoutName(module);
        const random = randomFrom(dropoutSeed, 'dropout', stepCount, runsSinceStep, name);
        return [name, dropoutMask([batch * sequence, inputCount], lora.dropout, random)];
      }),
    );
  };

  /** One run over a micro-batch: each row's sums go into `sums`. */
  const runLoss = async (
    rows: readonly TokenRow[],
    { rowIndices, shape }: MicroBatch,
    loss: LossSpecification,
    training: boolean,
    sums: MutableSums[],
  ) => {
    const program = await lossProgram(shape, loss, training);
    const { inputs, rowOfToken } = packed(
      rowIndices.map((index) => rows[index] as TokenRow),
      shape,
      decoder.vocabularySize,
    );
    const outputs = await program.run({ ...parameterInputs(), ...inputs, ...(training && dropoutInputs(shape)) });
    const weights = inputs.weights?.data as Float32Array;
    const columns = Object.entries(outputs).filter(([name]) => name === 'total' || name.startsWith(termName('')));
    rowOfToken.forEach((localRow, place) => {
      const row = sums[rowIndices[localRow] as number] as MutableSums;
      row.tokenCount += weights[place] as number;
      for (const [name, { data }] of columns) row.columns[name] = (row.columns[name] ?? 0) + Number(data[place]);
    });
    return outputs;
  };

  const lossesOf = async (rows: readonly TokenRow[], loss: LossSpecification, training: boolean): Promise<LossSums[]> => {
    rows.forEach((row, index) => checkRow(row, index, decoder, loss));
    const sums: MutableSums[] = rows.map(() => ({ tokenCount: 0, columns: {} }));
    for (const microBatch of microBatches(rows, tokenBudget)) {
      const outputs = await runLoss(rows, microBatch, loss, training, sums);
      if (!training) continue;
      runsSinceStep++;
      accumulated = accumulate(accumulated, names, outputs);
    }
    return sums.map(finished);
  };

  return {
    information: {
      architecture: decoder.architecture,
      vocabularySize: decoder.vocabularySize,
      contextLength: decoder.contextLength,
      trainableCount: Object.values(parameters).reduce((sum, data) => sum + data.length, 0),
      parameterCount: [...decoder.parameters.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0),
    },
    forwardBackward: async (rows, loss) => {
      if (names.length === 0) throw new UserError('this engine was made with parameters "none": it has nothing to train');
      return totalOf(await lossesOf(rows, loss, true));
    },
    forward: (rows, loss) => lossesOf(rows, loss, false),
    optimStep: async ({ optimiser: chosen, learningRate, tokenCount, maximumNorm }) => {
      if (accumulated === undefined) throw new InternalError('optimStep without a forwardBackward before it: there are no gradients');
      if (!(tokenCount > 0)) throw new InternalError(`optimStep wants the step's token count, which must be above 0, not ${tokenCount}`);
      const norm = globalNorm(accumulated) / tokenCount;
      if (!Number.isFinite(norm)) {
        throw new UserError(
          `The gradient of step ${stepCount + 1} is not finite (norm ${norm}). Try a lower learning rate, or clip with maximumNorm.`,
        );
      }
      const factor = clipFactor(norm, maximumNorm) / tokenCount;
      const gradients = scaled(accumulated, factor);
      const rule = (optimisers[chosen.name] as (options: OptimiserSpecification) => Optimiser)(chosen);
      const state = optimiser ?? rule.init(parameters);
      const next = rule.update({ parameters, gradients, state, learningRate, decays: (name) => (shapes.get(name)?.length ?? 0) > 1 });
      parameters = next.parameters;
      optimiser = next.state;
      accumulated = undefined;
      stepCount++;
      runsSinceStep = 0;
      return { gradientNorm: norm };
    },
    sample: async (requests, options, control = {}) => {
      if (requests.length === 0) return [];
      checkSampleRequests(requests, options, decoder);
      return sampleAll(
        {
          decoder,
          parameters: parameterInputs(),
          prefill: (sequence) =>
            compile(`prefill ${sequence}`, () => prefillGraph({ decoder, lora, shape: { batch: 1, sequence, lossCount: 1 } })),
          decode: (batch, capacity) => compile(`decode ${batch} ${capacity}`, () => decodeGraph(decoder, lora, batch, capacity), true),
        },
        requests,
        options,
        control,
      );
    },
    score: async (requests) => {
      requests.forEach((request, index) => checkScoreRequest(request, index, decoder));
      const scores: Score[] = [];
      for (const request of requests) scores.push(await scoreOne(request));
      return scores;
    },
    parameters: async () => parameterSet(parameters, shapes),
    state: async () => ({
      parameters: parameterSet(parameters, shapes),
      optimiser: Object.fromEntries(Object.entries(optimiser?.slots ?? {}).map(([slot, arrays]) => [slot, parameterSet(arrays, shapes)])),
      stepCount,
    }),
    restore: async (state: EngineState) => {
      parameters = checkedArrays(state.parameters, shapes);
      const slots = Object.entries(state.optimiser).map(([slot, set]) => [slot, checkedArrays(set, shapes)]);
      optimiser = slots.length === 0 ? undefined : { slots: Object.fromEntries(slots), stepCount: state.stepCount };
      accumulated = undefined;
      stepCount = state.stepCount;
      runsSinceStep = 0;
    },
    load: async (set) => begin(checkedArrays(set, shapes)),
    reset: async (seed) => {
      begin(arraysOf(model.redrawn(seed)));
      dropoutSeed = seed;
    },
    release: () => programs.release(),
  };

  /** Starts over from these parameters. */
  function begin(from: Arrays): void {
    parameters = from;
    optimiser = undefined;
    accumulated = undefined;
    stepCount = 0;
    runsSinceStep = 0;
  }

  async function scoreOne({ tokens, logitPositions, taps }: ScoreRequest): Promise<Score> {
    const logProbabilities = new Float32Array(tokens.length);
    const sequence = lengthBucket(tokens.length);
    if (tokens.length > 1) {
      const row: TokenRow = { tokens, weights: tokens.map((_, index) => (index === 0 ? 0 : 1)) };
      const shape = { batch: 1, sequence, lossCount: sequence };
      const program = await lossProgram(shape, { name: 'cross-entropy' }, false);
      const { total } = await program.run({ ...parameterInputs(), ...packed([row], shape, decoder.vocabularySize).inputs });
      for (let index = 1; index < tokens.length; index++) logProbabilities[index] = -Number(total?.data[index - 1]);
    }
    if (logitPositions === undefined && taps === undefined) return { logProbabilities };
    const positions = logitPositions ?? [];
    // Few sizes, since each is a program of its own; positions may repeat, so there may be more of them than tokens.
    const lossCount = positions.length > sequence ? positions.length : lossBucket(positions.length, sequence);
    const shape = { batch: 1, sequence, lossCount };
    const program = await compile(JSON.stringify(['logits', shape, taps ?? []]), () => logitsGraph({ decoder, lora, shape }, taps ?? []));
    const filled = new Int32Array(sequence);
    filled.set(tokens);
    const outputs = await program.run({
      ...parameterInputs(),
      tokens: { dataType: 'int32', shape: [1, sequence], data: filled },
      sources: {
        dataType: 'int32',
        shape: [shape.lossCount],
        data: Int32Array.from({ length: shape.lossCount }, (_, index) => positions[index] ?? 0),
      },
    });
    const tapped = (taps ?? []).map((name) => {
      const tensor = outputs[name];
      if (tensor === undefined)
        throw new UserError(
          `No inner value is called "${name}". There are hidden.0 … hidden.${decoder.layerCount} and attention.0 … attention.${decoder.layerCount - 1}`,
        );
      return [name, cropped(tensor, sequence, tokens.length)] as const;
    });
    return {
      logProbabilities,
      ...(logitPositions !== undefined && {
        logits: (outputs.logits?.data as Float32Array).slice(0, positions.length * decoder.vocabularySize),
      }),
      ...(taps !== undefined && { taps: Object.fromEntries(tapped) }),
    };
  }
};

interface MutableSums {
  tokenCount: number;
  readonly columns: Record<string, number>;
}

const finished = ({ tokenCount, columns }: MutableSums): LossSums => {
  const { total = 0, ...terms } = columns;
  const prefix = termName('');
  return {
    sum: total,
    tokenCount,
    terms: Object.fromEntries(Object.entries(terms).map(([name, value]) => [name.slice(prefix.length), value])),
  };
};

const totalOf = (rows: readonly LossSums[]): LossSums => {
  const terms: Record<string, number> = {};
  for (const row of rows) for (const [name, value] of Object.entries(row.terms)) terms[name] = (terms[name] ?? 0) + value;
  return { sum: rows.reduce((sum, row) => sum + row.sum, 0), tokenCount: rows.reduce((sum, row) => sum + row.tokenCount, 0), terms };
};

/** Adds a run's gradients to what was accumulated; the first run's become the accumulation. */
const accumulate = (
  before: Record<string, Float32Array> | undefined,
  names: readonly string[],
  outputs: Readonly<Record<string, HostTensor>>,
) => {
  const sums = before ?? {};
  for (const name of names) {
    const gradient = outputs[gradientName(name)]?.data as Float32Array;
    const sum = sums[name];
    if (sum === undefined) sums[name] = gradient;
    else for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (gradient[index] as number);
  }
  return sums;
};

const scaled = (arrays: Arrays, factor: number): Arrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, data]) => [name, data.map((value) => value * factor)]));

const arraysOf = (set: ParameterSet): Arrays => Object.fromEntries(Object.entries(set).map(([name, { data }]) => [name, data]));

/** Copies: a caller who writes into them changes no engine. */
const parameterSet = (arrays: Arrays, shapes: ReadonlyMap<string, readonly number[]>): ParameterSet =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, data]) => [name, { shape: shapes.get(name) ?? [data.length], data: data.slice() }]),
  );

/** The arrays of a set that must have the engine's names and shapes, copied. */
const checkedArrays = (set: ParameterSet, shapes: ReadonlyMap<string, readonly number[]>): Arrays => {
  const missing = [...shapes.keys()].filter((name) => set[name] === undefined);
  const foreign = Object.keys(set).filter((name) => !shapes.has(name));
  const bent = [...shapes].filter(([name, shape]) => set[name] !== undefined && !sameShape(set[name].shape, shape)).map(([name]) => name);
  const problems = Object.entries({ missing, foreign, 'of another shape': bent }).filter(([, found]) => found.length > 0);
  if (problems.length > 0) {
    const lines = problems.map(
      ([what, found]) => `  ${what}: ${found.slice(0, 5).join(', ')}${found.length > 5 ? ` and ${found.length - 5} more` : ''}`,
    );
    throw new UserError(`These parameters do not fit the model and its adapter:\n${lines.join('\n')}`);
  }
  return Object.fromEntries([...shapes.keys()].map((name) => [name, Float32Array.from((set[name] as ParameterSet[string]).data)]));
};

/** Cuts the padding off a tapped value: every axis of the padded length falls back to the true one. */
const cropped = (tensor: HostTensor, padded: number, length: number) => {
  const source = tensor.data as Float32Array;
  // hidden.L is [sequence, width]; attention.L is [1, heads, sequence, sequence].
  if (tensor.shape.length === 2)
    return { shape: [length, tensor.shape[1] as number], data: source.slice(0, length * (tensor.shape[1] as number)) };
  const heads = tensor.shape[1] as number;
  const data = new Float32Array(heads * length * length);
  for (let head = 0; head < heads; head++) {
    for (let query = 0; query < length; query++) {
      const start = (head * padded + query) * padded;
      data.set(source.subarray(start, start + length), (head * length + query) * length);
    }
  }
  return { shape: [heads, length, length], data };
};
