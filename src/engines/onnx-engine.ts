import { InternalError, UserError } from '../base/errors.ts';
import { elementCount } from '../graph/tensor-type.ts';
import type { Arrays, OptimiserState } from '../optim/optimiser.ts';
import { openDevice } from '../runtime/open-device.ts';
import type { Device } from '../runtime/program.ts';
import { checkRow, checkSampleRequests, checkScoreRequest } from './check-rows.ts';
import { deviceState } from './device-state.ts';
import type { Engine, EngineSpecification, EngineState, LossSpecification, LossSums, RowLimits, Score, TokenRow } from './engine.ts';
import { type LoadedModel, loadModel } from './loaded-model.ts';
import { lossPositions, type MicroBatch, microBatches, tokenBudgetOf } from './micro-batch.ts';
import { onnxRunner } from './onnx-runner.ts';
import { arraysOf, checkedArrays, parameterSet } from './parameter-arrays.ts';
import { runnerLayout, shareOf } from './program-memory.ts';
import type { LossOutcome, Runner } from './runner.ts';
import { releaseRunners, runnerTeam } from './runner-team.ts';
import { termName } from './step-graphs.ts';
import { hostState, type TrainingState } from './training-state.ts';
import { workerRunner } from './worker-runner.ts';

/** Trains and samples with ONNX Runtime: in the calling thread, which each run blocks, or with several runners in threads of their own. */
export const onnxEngine = async (specification: EngineSpecification): Promise<Engine> => {
  const device = await openDevice(specification.device);
  try {
    const model = await loadModel(specification);
    const shapes = new Map(Object.entries(model.trainable).map(([name, { shape }]) => [name, shape]));
    const initial = arraysOf(model.trainable);
    if (!device.keepsTensors) {
      return engineOf({
        specification,
        model,
        device,
        held: hostState(shapes, initial),
        runners: await openRunners(specification, model),
      });
    }
    const held = await deviceState(device, specification.device, shapes, initial);
    return engineOf({ specification, model, device, held, runners: [onnxRunner(specification, model, held)] });
  } catch (error) {
    await device.release();
    throw error;
  }
};

const openRunners = async (specification: EngineSpecification, model: LoadedModel): Promise<Runner[]> => {
  const { runnerCount, threadCount } = runnerLayout(specification);
  if (runnerCount === 1) return [onnxRunner(specification, model)];
  // What was found out once is not found out by each again.
  const byteForm = model.frozen.training.byteForm ?? model.frozen.inference.byteForm;
  const own: EngineSpecification = {
    ...specification,
    ...{ runnerCount: 1, memoryShare: shareOf(runnerCount, specification.memoryShare) },
    ...(threadCount !== undefined && { threadCount }),
    ...(byteForm && { byteForm }),
  };
  const opened = await Promise.allSettled(Array.from({ length: runnerCount }, () => workerRunner(own)));
  const runners = opened.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
  const failed = opened.find((end) => end.status === 'rejected');
  if (failed === undefined) return runners;
  await releaseRunners(runners);
  throw failed.reason;
};

/** All of it is released with the engine. */
interface EngineParts {
  readonly specification: EngineSpecification;
  readonly model: LoadedModel;
  readonly device: Device;
  readonly held: TrainingState;
  readonly runners: readonly Runner[];
}

const engineOf = ({ specification, model, device, held, runners }: EngineParts): Engine => {
  const { decoder } = model;
  const lora = specification.parameters.kind === 'lora' ? specification.parameters : undefined;
  const names = Object.keys(model.trainable);
  const shapes = new Map(Object.entries(model.trainable).map(([name, { shape }]) => [name, shape]));
  const tokenBudget = tokenBudgetOf(decoder, specification);
  const team = runnerTeam(runners, specification.threadCount);

  let stepCount = 0;
  let runsSinceStep = 0;
  let dropoutSeed = lora?.seed ?? 0;

  const lossesOf = async (
    rows: readonly TokenRow[],
    loss: LossSpecification,
    { training, limits }: { training: boolean; limits?: RowLimits | undefined },
  ): Promise<LossSums[]> => {
    rows.forEach((row, index) => checkRow(row, index, decoder, loss));
    const sums: MutableSums[] = rows.map(() => ({ tokenCount: 0, columns: {} }));
    const batches = microBatches(rows, tokenBudget, limits);
    const take = (batch: MicroBatch, { columns, gradients }: LossOutcome): void => {
      addToRows(sums, rows, batch, columns);
      if (gradients !== undefined) held.add(gradients);
    };
    const firstRun = runsSinceStep;
    if (training) runsSinceStep += batches.length;
    await adopt();
    await team.inOrder(
      batches,
      (runner, { lanes, shape }, index, threadCount) =>
        runner.losses({
          lanes: lanes.map((lane) => lane.map((row) => rows[row] as TokenRow)),
          shape,
          loss,
          ...(training && { training: { dropout: { seed: dropoutSeed, step: stepCount, run: firstRun + index } } }),
          ...(threadCount !== undefined && { threadCount }),
        }),
      // In the order of the micro-batches whatever runner was done first, so that the sums have the same bytes with any number of runners.
      take,
    );
    return sums.map(finished);
  };

  /** Runners compute with the parameters as they are now. */
  const adopt = async (): Promise<void> => {
    if (held.adoptable !== undefined) await team.adopt(held.adoptable);
  };

  /** Starts over from these parameters. */
  const begin = async (from: Arrays, optimiser?: OptimiserState): Promise<void> => {
    await held.begin(from, optimiser);
    stepCount = 0;
    runsSinceStep = 0;
  };

  return {
    information: {
      architecture: decoder.architecture,
      vocabularySize: decoder.vocabularySize,
      contextLength: decoder.contextLength,
      trainableCount: Object.values(model.trainable).reduce((sum, { data }) => sum + data.length, 0),
      parameterCount: [...decoder.parameters.values()].reduce((sum, shape) => sum + elementCount(shape), 0),
    },
    forwardBackward: async (rows, loss, limits) => {
      if (names.length === 0) throw new UserError('this engine was made with parameters "none": it has nothing to train');
      return totalOf(await lossesOf(rows, loss, { training: true, limits }));
    },
    forward: (rows, loss, limits) => lossesOf(rows, loss, { training: false, limits }),
    optimStep: async (options) => {
      if (!held.hasGradients) throw new InternalError('optimStep without a forwardBackward before it: there are no gradients');
      const { tokenCount } = options;
      if (!(tokenCount > 0)) throw new InternalError(`optimStep wants the step's token count, which must be above 0, not ${tokenCount}`);
      const gradientNorm = await held.step(options, stepCount + 1);
      stepCount++;
      runsSinceStep = 0;
      return { gradientNorm };
    },
    sample: async (requests, options, control = {}) => {
      if (requests.length === 0) return [];
      checkSampleRequests(requests, options, decoder);
      await adopt();
      return team.sample(requests, options, control);
    },
    score: async (requests) => {
      requests.forEach((request, index) => checkScoreRequest(request, index, decoder));
      await adopt();
      const scores: Score[] = [];
      await team.inOrder(
        requests,
        (runner, request, _, threadCount) => runner.score({ ...request, ...(threadCount !== undefined && { threadCount }) }),
        (_, score) => scores.push(score),
      );
      return scores;
    },
    parameters: async () => parameterSet(await held.parameters(), shapes),
    state: async () => ({
      parameters: parameterSet(await held.parameters(), shapes),
      optimiser: Object.fromEntries(
        Object.entries((await held.optimiser())?.slots ?? {}).map(([slot, arrays]) => [slot, parameterSet(arrays, shapes)]),
      ),
      stepCount,
    }),
    restore: async (state: EngineState) => {
      const slots = Object.entries(state.optimiser).map(([slot, set]) => [slot, checkedArrays(set, shapes)] as const);
      const optimiser = { slots: Object.fromEntries(slots), stepCount: state.stepCount };
      await begin(checkedArrays(state.parameters, shapes), slots.length === 0 ? undefined : optimiser);
      stepCount = state.stepCount;
    },
    load: async (set) => begin(checkedArrays(set, shapes)),
    reset: async (seed) => {
      await begin(arraysOf(model.redrawn(seed)));
      dropoutSeed = seed;
    },
    release: async () => {
      await team.release();
      await held.release();
      await device.release();
    },
  };
};

interface MutableSums {
  tokenCount: number;
  readonly columns: Record<string, number>;
}

/** Adds a micro-batch's values, token by token, to the sums of the rows that the tokens belong to. */
const addToRows = (
  sums: readonly MutableSums[],
  rows: readonly TokenRow[],
  { lanes }: MicroBatch,
  columns: LossOutcome['columns'],
): void => {
  let place = 0;
  for (const rowIndex of lanes.flat()) {
    const row = rows[rowIndex] as TokenRow;
    const rowSums = sums[rowIndex] as MutableSums;
    for (const position of lossPositions(row)) {
      rowSums.tokenCount += row.weights[position] as number;
      for (const [name, data] of Object.entries(columns)) rowSums.columns[name] = (rowSums.columns[name] ?? 0) + (data[place] as number);
      place++;
    }
  }
};

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
