import { memoryBytes } from '../base/memory.ts';
import type { Graph } from '../graph/graph.ts';
import { peakBytes } from '../graph/peak-bytes.ts';
import { bytesPerElement, elementCount } from '../graph/tensor-type.ts';
import type { EngineSpecification } from './engine.ts';
import { isLargeInput } from './step-graphs.ts';

/** What ONNX Runtime holds for each node of a compiled program: 18 to 20 KB, measured on SmolLM2's training programs of 7,800 to 16,500 nodes. */
const bytesPerNode = 19 * 1024;
/** Its allocator takes so much more than what is alive at once, measured on the same programs. */
const allocatorShare = 1.15;
/** And that much, where there is as much to allocate. */
const allocatorBytes = 64 * 2 ** 20;

/** About what a compiled program holds on to and is given at a run, beside the weights that it shares with others. */
export const programBytes = (graph: Graph): number => {
  const peak = peakBytes(graph);
  const given = [...graph.inputs]
    .filter(([name]) => isLargeInput(name))
    .map(([, { type }]) => elementCount(type.shape) * bytesPerElement[type.dataType]);
  return (
    bytesPerNode * graph.nodes.length +
    allocatorShare * peak +
    Math.min(peak, allocatorBytes) +
    given.reduce((sum, bytes) => sum + bytes, 0)
  );
};

/** The share of memory that compiled programs may take where an engine is alone. */
export const programShare = 1 / 2;

/** How an engine's work is dealt out: runners, the threads of each, and what the programs of each may take. */
export interface RunnerLayout {
  readonly runnerCount: number;
  /** Absent: all there are. */
  readonly threadCount?: number;
  /** Absent: on a device with memory of its own, of which nothing is known here. */
  readonly limitBytes?: number;
}

export const runnerLayout = ({
  runnerCount: wanted = 1,
  threadCount,
  device,
  memoryShare = programShare,
}: Pick<EngineSpecification, 'runnerCount' | 'threadCount' | 'device' | 'memoryShare'>): RunnerLayout => {
  // Several runners are there to fill several cores.
  const runnerCount = device === 'cpu' ? wanted : 1;
  const threads = runnerCount === 1 ? threadCount : Math.max(1, Math.floor((threadCount ?? runnerCount) / runnerCount));
  return {
    runnerCount,
    ...(threads !== undefined && { threadCount: threads }),
    ...(device === 'cpu' && { limitBytes: (memoryShare * memoryBytes()) / runnerCount }),
  };
};

/** The share of one of so many that compute at once. */
export const shareOf = (count: number, memoryShare = programShare): number => memoryShare / count;
