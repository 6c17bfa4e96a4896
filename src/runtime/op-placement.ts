import type { Graph } from '../graph/graph.ts';
import type { DeviceName } from './devices.ts';
import { type NodeRecord, profiled } from './profile.ts';
import type { Tensor } from './program.ts';

/** How many ONNX nodes of one kind a provider computes. */
export interface OpPlacement {
  /** ONNX Runtime's name for what computes, `CPU` or `WebGpu`. */
  readonly provider: string;
  readonly opType: string;
  readonly count: number;
}

/** Runs a program once and reads from ONNX Runtime's profile where each of its nodes ran; copies between host and device are nodes too. */
export const opPlacements = async (graph: Graph, inputs: Readonly<Record<string, Tensor>>, device: DeviceName): Promise<OpPlacement[]> =>
  counted(await profiled(graph, { device }, async (program) => void (await program.run(inputs))));

const counted = (records: readonly NodeRecord[]): OpPlacement[] => {
  const nodes = new Map(records.map(({ name, provider, opType }) => [name, { provider, opType }]));
  const counts = new Map<string, OpPlacement>();
  for (const { provider, opType } of nodes.values()) {
    const key = `${provider} ${opType}`;
    counts.set(key, { provider, opType, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, placement]) => placement);
};
