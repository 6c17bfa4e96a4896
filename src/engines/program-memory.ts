import { availableParallelism } from 'node:os';
import { memoryBytes } from '../base/memory.ts';
import type { Graph } from '../graph/graph.ts';
import { peakBytes } from '../graph/peak-bytes.ts';

/** What ONNX Runtime holds for each node of a compiled program: 18 to 20 KB, measured on SmolLM2's training programs of 7,800 to 16,500 nodes. */
const bytesPerNode = 19 * 1024;
/** Its allocator takes so much more than what is alive at once, measured on the same programs. */
const allocatorShare = 1.15;
/** And that much, where there is as much to allocate. */
const allocatorBytes = 64 * 2 ** 20;

/** About what a compiled program holds on to, beside the weights that it shares with others. */
export const programBytes = (graph: Graph): number => {
  const peak = peakBytes(graph);
  return bytesPerNode * graph.nodes.length + allocatorShare * peak + Math.min(peak, allocatorBytes);
};

/** The share of memory that compiled programs may take, of all runners that compute at once. */
const programShare = 1 / 2;

/** What one runner's programs may take: its threads' part of the machine. */
export const programLimitBytes = (threadCount: number = availableParallelism()): number =>
  programShare * memoryBytes() * Math.min(1, threadCount / availableParallelism());
