import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Graph } from '../graph/graph.ts';
import type { DeviceName } from './devices.ts';
import { compileProgram } from './onnx-program.ts';
import type { Tensor } from './program.ts';

/** How many ONNX nodes of one kind a provider computes. */
export interface OpPlacement {
  /** ONNX Runtime's name for what computes, `CPU` or `WebGpu`. */
  readonly provider: string;
  readonly opType: string;
  readonly count: number;
}

/** One record of ONNX Runtime's profile; there are others than those of nodes. */
interface ProfileRecord {
  readonly cat: string;
  readonly name: string;
  readonly args?: { readonly provider?: string; readonly op_name?: string };
}

/** Runs a program once and reads from ONNX Runtime's profile where each of its nodes ran; copies between host and device are nodes too. */
export const opPlacements = async (graph: Graph, inputs: Readonly<Record<string, Tensor>>, device: DeviceName): Promise<OpPlacement[]> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-profile-'));
  try {
    const program = await compileProgram(graph, { device, profilePrefix: join(folder, 'profile') });
    try {
      await program.run(inputs);
    } finally {
      await program.release();
    }
    const [file] = await readdir(folder);
    const records: readonly ProfileRecord[] = JSON.parse(await readFile(join(folder, file ?? ''), 'utf8'));
    return counted(records);
  } finally {
    await rm(folder, { recursive: true });
  }
};

const counted = (records: readonly ProfileRecord[]): OpPlacement[] => {
  const nodes = new Map<string, { readonly provider: string; readonly opType: string }>();
  for (const { cat, name, args } of records) {
    if (cat !== 'Node' || args?.provider === undefined || args.op_name === undefined) continue;
    nodes.set(name, { provider: args.provider.replace('ExecutionProvider', ''), opType: args.op_name });
  }
  const counts = new Map<string, OpPlacement>();
  for (const { provider, opType } of nodes.values()) {
    const key = `${provider} ${opType}`;
    counts.set(key, { provider, opType, count: (counts.get(key)?.count ?? 0) + 1 });
  }
  return [...counts.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, placement]) => placement);
};
