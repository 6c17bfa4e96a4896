import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Graph } from '../graph/graph.ts';
import { type CompileOptions, compileProgram } from './onnx-program.ts';
import type { Program } from './program.ts';

/** One execution of one node, as ONNX Runtime's profile tells it. */
export interface NodeRecord {
  /** The node's name in the ONNX model, or what ONNX Runtime called one that it made of several. */
  readonly name: string;
  /** What computed it, `CPU` or `WebGpu`. */
  readonly provider: string;
  readonly opType: string;
  readonly durationMs: number;
  readonly inputShapes: readonly (readonly number[])[];
  readonly outputShapes: readonly (readonly number[])[];
}

interface ProfileRecord {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args?: {
    readonly provider?: string;
    readonly op_name?: string;
    readonly input_type_shape?: readonly Readonly<Record<string, readonly number[]>>[];
    readonly output_type_shape?: readonly Readonly<Record<string, readonly number[]>>[];
  };
}

/** Compiles a graph, lets `use` run it, and returns what every node took in every run, in their order. */
export const profiled = async (
  graph: Graph,
  options: Omit<CompileOptions, 'profilePrefix'>,
  use: (program: Program) => Promise<void>,
): Promise<NodeRecord[]> => {
  const folder = await mkdtemp(join(tmpdir(), 'retort-profile-'));
  try {
    const program = await compileProgram(graph, { ...options, profilePrefix: join(folder, 'profile') });
    try {
      await use(program);
    } finally {
      await program.release();
    }
    const [file] = await readdir(folder);
    const records: readonly ProfileRecord[] = JSON.parse(await readFile(join(folder, file ?? ''), 'utf8'));
    return records.flatMap(nodeRecord);
  } finally {
    await rm(folder, { recursive: true });
  }
};

const nodeRecord = ({ cat, name, dur, args }: ProfileRecord): NodeRecord[] => {
  if (cat !== 'Node' || args?.provider === undefined || args.op_name === undefined) return [];
  const shapesOf = (types: readonly Readonly<Record<string, readonly number[]>>[] = []) => types.flatMap((type) => Object.values(type));
  return [
    {
      name: name.replace(/_kernel_time$/, ''),
      provider: args.provider.replace('ExecutionProvider', ''),
      opType: args.op_name,
      durationMs: dur / 1000,
      inputShapes: shapesOf(args.input_type_shape),
      outputShapes: shapesOf(args.output_type_shape),
    },
  ];
};
