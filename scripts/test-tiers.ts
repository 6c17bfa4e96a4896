import { chainTo, readSources } from './source-imports.ts';

/** What a test file needs, cheapest first, which is also the order in which they run. */
export const tierNames = ['unit', 'architecture', 'runtime', 'methods', 'package'] as const;
export type TierName = (typeof tierNames)[number];

/**
 * The tiers that cannot be read off a test's imports: `methods` trains toys or runs the command, `package` builds, packs and installs.
 * Any other test that reaches ONNX Runtime is `runtime`, and the rest is `unit`: seconds, no native code. Tests that want real weights
 * stand in the tier of what they load, and skip with a printed reason where RETORT_MODELS is not set.
 */
export const slowTests: Readonly<Record<string, TierName>> = {
  'architecture.test.ts': 'architecture',
  'cli.test.ts': 'methods',
  'forget.test.ts': 'methods',
  'matching.test.ts': 'methods',
  'methods-distillation.test.ts': 'methods',
  'methods-fine-tune.test.ts': 'methods',
  'methods-protocol.test.ts': 'methods',
  'methods-response-priming.test.ts': 'methods',
  'methods-train.test.ts': 'methods',
  'commands.test.ts': 'methods',
  'package.test.ts': 'package',
  'readme.test.ts': 'methods',
  'quickstart-run.test.ts': 'methods',
  'security.test.ts': 'methods',
};

export interface Tier {
  readonly name: TierName;
  /** Paths from the root of the clone. */
  readonly files: readonly string[];
}

/** Every test file in its tier. */
export const readTiers = (): readonly Tier[] => {
  const tests = readSources('test');
  const files = new Map([...readSources('src'), ...tests].map((file) => [file.path, file]));
  const tierOf = (path: string): TierName =>
    slowTests[path.slice('test/'.length)] ?? (chainTo(files, path, 'onnxruntime-node') === undefined ? 'unit' : 'runtime');
  const paths = tests.map(({ path }) => path).filter((path) => path.endsWith('.test.ts'));
  return tierNames.map((name) => ({ name, files: paths.filter((path) => tierOf(path) === name).sort() }));
};
