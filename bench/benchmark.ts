import type { Contestant, Target } from './figures.ts';
import type { PythonEnvironment } from './python-environment.ts';

export interface BenchmarkOptions {
  /** Of SmolLM2-135M-Instruct. */
  readonly modelFolder: string;
  readonly python: PythonEnvironment;
  readonly roundCount: number;
  readonly threadCount: number;
  /** Also modes of the rival that take minutes to begin (torch.compile). */
  readonly withCompiled: boolean;
  readonly log: (line: string) => void;
}

export interface BenchmarkReport {
  readonly workload: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly tables: readonly { readonly title: string; readonly contestants: readonly Contestant[] }[];
  readonly targets: readonly Target[];
}

export type Benchmark = (options: BenchmarkOptions) => Promise<BenchmarkReport>;
