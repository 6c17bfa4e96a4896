import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { randomFrom } from '../../src/base/random.ts';
import type {
  Engine,
  EngineSpecification,
  OptimiserSpecification,
  ParameterSet,
  SampleOptions,
  TokenRow,
} from '../../src/engines/engine.ts';
import { tensorOf, tinyLora, tinySpecification } from '../golden/golden-files.ts';

/** What an engine must provide to be held to the laws: a way to make it for tiny-llama, and reasons for laws that cannot apply to it. */
export interface ConformanceSubject {
  readonly name: string;
  create(specification: EngineSpecification): Promise<Engine>;
  readonly layout: EngineSpecification['layout'];
  /** Reasons by the law's title; they are printed. */
  readonly skip?: Readonly<Record<string, string>>;
}

/** What a group of laws is written with. */
export interface Suite {
  /** A test with the shared engine, which has adapters with B not zero and no accumulation at its beginning. */
  law(title: string, check: (engine: Engine, start: ParameterSet) => Promise<void>): void;
  /** An engine that belongs to the caller, who releases it. */
  make(changes?: Partial<EngineSpecification>): Promise<Engine>;
  /** An engine for as long as `use` takes. */
  using(changes: Partial<EngineSpecification>, use: (engine: Engine) => Promise<void>): Promise<void>;
}

export const crossEntropy = { name: 'cross-entropy' } as const;
export const adamw: OptimiserSpecification = { name: 'adamw', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 };
export const sgd: OptimiserSpecification = { name: 'sgd', momentum: 0, weightDecay: 0 };
export const greedy: SampleOptions = { maximumTokens: 16, temperature: 0, topP: 1, endTokens: [] };
export const vocabularySize = 96;
export const contextLength = 256;

/** Rows of the given lengths; the first third of each has no weight, and a token in the middle has none either. */
export const rowsOf = (lengths: readonly number[], seed: number): TokenRow[] => {
  const random = randomFrom(seed, 'rows');
  return lengths.map((length) => ({
    tokens: Array.from({ length }, () => random.integer(vocabularySize)),
    weights: Array.from({ length }, (_, index) => (index === 0 || index < length / 3 || (length > 8 && index === length - 3) ? 0 : 1)),
  }));
};

export const unequal = [37, 5, 64, 12, 2, 33, 100, 21];

/** B away from zero, so that A has a gradient too. */
export const withRandomB = (parameters: ParameterSet, scale = 0.1): ParameterSet => {
  const random = randomFrom(3, 'B');
  return Object.fromEntries(
    Object.entries(parameters).map(([name, { shape, data }]) => [
      name,
      { shape, data: name.includes('lora_B') ? data.map(() => scale * random.normal()) : data },
    ]),
  );
};

export const copyOf = (set: ParameterSet): ParameterSet =>
  Object.fromEntries(Object.entries(set).map(([name, { shape, data }]) => [name, { shape, data: data.slice() }]));

/** Byte for byte; assert.deepEqual would print thousands of numbers. */
export const assertSame = (actual: ParameterSet, expected: ParameterSet, what: string): void => {
  assert.deepEqual(Object.keys(actual).sort(), Object.keys(expected).sort(), `${what}: names`);
  const differing = Object.keys(expected).filter((name) => !sameBytes(tensorOf(actual, name), tensorOf(expected, name)));
  assert.deepEqual(differing, [], `${what}: these differ`);
};

const sameBytes = (a: Float32Array, b: Float32Array): boolean =>
  a.length === b.length &&
  Buffer.compare(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) === 0;

/** Registers groups of laws for an engine. */
export const holdTo = ({ name, create, layout, skip = {} }: ConformanceSubject, groups: readonly ((suite: Suite) => void)[]): void => {
  describe(`engine conformance: ${name}`, () => {
    let trained: Engine;
    let start: ParameterSet;
    const make = (changes: Partial<EngineSpecification> = {}) => create(tinySpecification({ layout, parameters: tinyLora, ...changes }));
    const using: Suite['using'] = async (changes, use) => {
      const engine = await make(changes);
      try {
        await use(engine);
      } finally {
        await engine.release();
      }
    };
    const law: Suite['law'] = (title, check) => {
      it(title, { skip: skip[title] ?? false }, async () => {
        await trained.load(start);
        await check(trained, start);
      });
    };
    before(async () => {
      trained = await make();
      start = withRandomB(await trained.parameters());
    });
    after(() => trained.release());
    for (const group of groups) group({ law, make, using });
  });
};
