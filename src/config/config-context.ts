/** What a config's texts mean depends on where its file lies and on the environment; both are arguments. */
export interface ConfigContext {
  /** The folder that relative paths start from. */
  readonly folder: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folder that a relative path in an environment variable starts from, as shells mean it; absent: `folder`. */
  readonly workingFolder?: string;
  /** Whether something lies at a path: tells a model's folder from the name of a repository on the hub. */
  readonly isThere: (path: string) => boolean;
  /** `resolve`: paths absolute, variables filled in. `keep`: as written, for the run folder's record and for the JSON Schema. */
  readonly paths: 'resolve' | 'keep';
}
