import type { Versions } from '../run-folder/manifest.ts';
import type { Environment } from '../teachers/provider-keys.ts';

/** What a stage is given beside its config: everything that comes from outside, so that nothing comes in by the back door. */
export interface Surroundings {
  /** Where teachers' keys are looked up. */
  readonly environment: Environment;
  /** Refuses whatever is not on this machine. */
  readonly offline: boolean;
  /** A folder, a .gguf file or a hub id, to a folder or file on this machine. */
  readonly resolveModel: (reference: string) => Promise<string>;
  /** Of this package, Node and ONNX Runtime, for the record. */
  readonly versions: Versions;
  /** Raised: the stage under way ends at its next safe point and can be continued. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (name: string, progress: StageProgress) => void;
  /** A line for the user. */
  readonly say?: (line: string) => void;
}

export interface StageProgress {
  readonly doneCount: number;
  readonly totalCount: number;
  readonly tokenCount?: number;
  readonly note?: string;
}
