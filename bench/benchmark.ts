import type { Contestant, Target } from './figures.ts';
import type { PythonEnvironment } from './python-environment.ts';

export interface BenchmarkOptions {
  /** Of SmolLM2-135M-Instruct; empty for a benchmark that wants no model. */
  readonly modelFolder: string;
  /** Only these parts, of a benchmark that has some; all of them when empty. */
  readonly parts: readonly string[];
  readonly python: PythonEnvironment;
  readonly roundCount: number;
  readonly threadCount: number;
  /** How often what is killed is killed. */
  readonly killCount: number;
  /** Also modes of the rival that take minutes to begin (torch.compile). */
  readonly withCompiled: boolean;
  readonly log: (line: string) => void;
}

export interface BenchmarkReport {
  readonly workload: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly tables: readonly { readonly title: string; readonly contestants: readonly Contestant[] }[];
  /** Further lines of Markdown. */
  readonly notes?: readonly string[];
  readonly targets: readonly Target[];
}

export type Benchmark = (options: BenchmarkOptions) => Promise<BenchmarkReport>;
