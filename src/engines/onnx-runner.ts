import { UserError } from '../base/errors.ts';
import { memoryBytes } from '../base/memory.ts';
import { randomFrom } from '../base/random.ts';
import type { Graph } from '../graph/graph.ts';
import type { HostTensor } from '../graph/tensor-type.ts';
import { isAdapted } from '../nn/scope.ts';
import type { Arrays } from '../optim/optimiser.ts';
import { compileProgram } from '../runtime/onnx-program.ts';
import type { Program } from '../runtime/program.ts';
import { lengthBucket, lossBucket } from './buckets.ts';
import type { DeviceState } from './device-state.ts';
import { dropoutMask } from './dropout.ts';
import type { EngineSpecification, LossSpecification, Score, ScoreRequest, TokenRow } from './engine.ts';
import { hostCache } from './key-value-cache.ts';
import { compileOptionsOf, graphModelOf, hostParameter, type LoadedModel, type Purpose, weightBytes } from './loaded-model.ts';
import { type MicroBatchShape, packed } from './micro-batch.ts';
import { programCache } from './program-cache.ts';
import { programBytes, programShare, runnerLayout } from './program-memory.ts';
import type { DropoutStream, LossOutcome, LossTask, OwnThreads, Runner } from './runner.ts';
import { sampleAll } from './sampler.ts';
import { decodeGraph, dropoutName, type GraphModel, gradientName, logitsGraph, lossGraph, prefillGraph, termName } from './step-graphs.ts';
import { type TrainingGraph, trainingGraph } from './training-graph.ts';

/** What holds parameters on a device: runners of such do not adopt any. */
export type OnDevice = Pick<DeviceState, 'compile' | 'openCache'>;

interface Compilation {
  /** Absent: inference. */
  readonly purpose?: Purpose;
  readonly prepack?: boolean;
  readonly threadCount?: number | undefined;
}

/** Computes with ONNX Runtime in the calling thread, which each run blocks. */
export const onnxRunner = (specification: EngineSpecification, model: LoadedModel, onDevice?: OnDevice): Runner => {
  const compileGraph = onDevice?.compile ?? compileProgram;
  const { decoder } = model;
  const lora = specification.parameters.kind === 'lora' ? specification.parameters : undefined;
  const names = Object.keys(model.trainable);
  const { limitBytes } = runnerLayout(specification);
  const shapes = new Map(Object.entries(model.trainable).map(([name, { shape }]) => [name, shape]));
  const programs = programCache(limitBytes ?? programShare * memoryBytes());
  let parameterInputs: Readonly<Record<string, HostTensor>> = {};

  const compile = (
    key: string,
    trace: (model: GraphModel) => Graph | TrainingGraph,
    { purpose = 'inference', prepack = false, threadCount = specification.threadCount }: Compilation = {},
  ): Promise<Program> =>
    programs.get(`${purpose} ${key} ${threadCount ?? ''}`, () => {
      const frozen = model.frozen[purpose];
      const traced = trace(graphModelOf(model, specification, purpose));
      const { graph, sizeBytes } = 'graph' in traced ? traced : { graph: traced, sizeBytes: programBytes(traced) };
      return {
        sizeBytes: sizeBytes + (prepack ? weightBytes(frozen.weights) : 0),
        compile: () =>
          compileGraph(graph, {
            device: specification.device,
            ...compileOptionsOf(frozen, prepack),
            ...(threadCount !== undefined && { threadCount }),
          }),
      };
    });

  const lossProgram = (shape: MicroBatchShape, loss: LossSpecification, training: boolean, threadCount?: number) =>
    compile(
      JSON.stringify(['loss', shape, loss]),
      (graphed) =>
        training
          ? trainingGraph({ ...graphed, shape }, loss, { trainable: names, activations: specification.activations, limitBytes })
          : lossGraph({ ...graphed, shape }, loss),
      { purpose: training ? 'training' : 'inference', threadCount },
    );

  const dropoutInputs = ({ batch, sequence }: MicroBatchShape, { seed, step, run }: DropoutStream): Record<string, HostTensor> => {
    if (lora === undefined || lora.dropout === 0) return {};
    const targets = new Set(lora.targets);
    const adapted = [...decoder.linearModules].filter(([module]) => isAdapted(module, targets));
    return Object.fromEntries(
      adapted.map(([module, [, inputCount]]) => {
        const name = dropoutName(module);
        const random = randomFrom(seed, 'dropout', step, run, name);
        return [name, dropoutMask([batch * sequence, inputCount], lora.dropout, random)];
      }),
    );
  };

  const losses = async ({ lanes, shape, loss, training, threadCount }: LossTask): Promise<LossOutcome> => {
    const program = await lossProgram(shape, loss, training !== undefined, threadCount);
    const outputs = await program.run({
      ...parameterInputs,
      ...packed(lanes, shape, decoder.vocabularySize),
      ...(training && dropoutInputs(shape, training.dropout)),
    });
    const columns = Object.entries(outputs).filter(([name]) => name === 'total' || name.startsWith(termName('')));
    return {
      columns: Object.fromEntries(columns.map(([name, { data }]) => [name, data as Float32Array])),
      ...(training && { gradients: gradientsOf(names, outputs) }),
    };
  };

  return {
    adopt: async (parameters) => {
      parameterInputs = Object.fromEntries(
        names.map((name) => [
          name,
          hostParameter({ shape: shapes.get(name) as readonly number[], data: parameters[name] as Float32Array }),
        ]),
      );
    },
    losses,
    sample: (requests, { threadCount, ...options }, control = {}) =>
      sampleAll(
        {
          decoder,
          parameters: parameterInputs,
          prefill: ({ sequence, promptCount, prefixLength, packed: isPacked }) => {
            const shape = { batch: 1, sequence, lossCount: promptCount, ...(isPacked && { packed: true as const }) };
            const key = JSON.stringify(['prefill', shape, prefixLength]);
            return compile(key, (graphed) => prefillGraph({ ...graphed, shape }, prefixLength), { threadCount });
          },
          decode: (batch, capacity) =>
            // Its few rows would have every matrix packed anew at every token.
            compile(`decode ${batch} ${capacity}`, (graphed) => decodeGraph(graphed, batch, capacity), { prepack: true, threadCount }),
          cache: async (batch, capacity) =>
            onDevice === undefined ? hostCache(decoder, batch, capacity) : onDevice.openCache(decoder, batch, capacity),
        },
        requests,
        options,
        control,
      ),
    score: scoreOne,
    release: () => programs.release(),
  };

  async function scoreOne({ tokens, logitPositions, taps, threadCount }: ScoreRequest & OwnThreads): Promise<Score> {
    const logProbabilities = new Float32Array(tokens.length);
    const sequence = lengthBucket(tokens.length);
    if (tokens.length > 1) {
      const row: TokenRow = { tokens, weights: tokens.map((_, index) => (index === 0 ? 0 : 1)) };
      const shape = { batch: 1, sequence, lossCount: sequence };
      const program = await lossProgram(shape, { name: 'cross-entropy' }, false, threadCount);
      const { total } = await program.run({ ...parameterInputs, ...packed([[row]], shape, decoder.vocabularySize) });
      for (let index = 1; index < tokens.length; index++) logProbabilities[index] = -Number(total?.data[index - 1]);
    }
    if (logitPositions === undefined && taps === undefined) return { logProbabilities };
    const positions = logitPositions ?? [];
    // Few sizes, since each is a program of its own; positions may repeat, so there may be more of them than tokens.
    const lossCount = positions.length > sequence ? positions.length : lossBucket(positions.length, sequence);
    const shape = { batch: 1, sequence, lossCount };
    const program = await compile(
      JSON.stringify(['logits', shape, taps ?? []]),
      (graphed) => logitsGraph({ ...graphed, shape }, taps ?? []),
      {
        threadCount,
      },
    );
    const filled = new Int32Array(sequence);
    filled.set(tokens);
    const outputs = await program.run({
      ...parameterInputs,
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

const gradientsOf = (names: readonly string[], outputs: Readonly<Record<string, HostTensor>>): Arrays =>
  Object.fromEntries(names.map((name) => [name, outputs[gradientName(name)]?.data as Float32Array]));

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
