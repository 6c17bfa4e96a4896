import { constant, type Value } from '../graph/value.ts';
import { negativeLogLikelihood } from '../losses/cross-entropy.ts';
import { attention, cachedAttention, causalChunks } from '../nn/attention.ts';
import { linear, linears } from '../nn/linear.ts';
import { rotaryTables } from '../nn/rope.ts';
import type { Scope } from '../nn/scope.ts';
import { add, mul, silu } from '../ops/elementwise.ts';
import { gather } from '../ops/indexing.ts';
import { gemm } from '../ops/matmul.ts';
import { rmsNorm } from '../ops/normalisation.ts';
import { rotaryEmbedding } from '../ops/rotary.ts';
import { concat, reshape, transpose } from '../ops/shape.ts';
import type { DecodeInputs, Decoder, ForwardOptions, KeyValue } from './decoder.ts';
import { type LlamaConfig, parseLlamaConfig } from './llama-config.ts';

/** The Llama family (Llama 2 and 3, SmolLM2): RMS norm before each half, rotary positions, grouped queries, SwiGLU. */
export const llama = (raw: unknown): Decoder => {
  const config = parseLlamaConfig(raw);
  const { parameters, linearModules, linearGroups } = llamaParameters(config);
  return {
    architecture: 'LlamaForCausalLM',
    vocabularySize: config.vocabularySize,
    contextLength: config.contextLength,
    width: config.width,
    layerCount: config.layerCount,
    headCount: config.headCount,
    kvHeadCount: config.kvHeadCount,
    headWidth: config.headWidth,
    initializerRange: config.initializerRange,
    parameters,
    linearModules,
    linearGroups,
    tiedEmbeddings: config.tiedEmbeddings,
    forward: (scope, tokens, options) => forward(config, scope, tokens, options),
    headName: headName(config),
    logits: (scope, hidden) => logits(config, scope, hidden),
    negativeLogLikelihood: (scope, hidden, targets) => likelihood(config, scope, hidden, targets),
    decodeStep: (scope, inputs) => decodeStep(config, scope, inputs),
  };
};

const embeddingName = 'model.embed_tokens.weight';

const llamaParameters = (config: LlamaConfig) => {
  const { width, mlpWidth } = config;
  const queryWidth = config.headCount * config.headWidth;
  const kvWidth = config.kvHeadCount * config.headWidth;
  const linearModules = new Map<string, readonly [number, number]>();
  const linearGroups: string[][] = [];
  const parameters = new Map<string, readonly number[]>([[embeddingName, [config.vocabularySize, width]]]);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `model.layers.${layer}`;
    parameters.set(`${prefix}.input_layernorm.weight`, [width]);
    parameters.set(`${prefix}.post_attention_layernorm.weight`, [width]);
    linearGroups.push(
      ['q_proj', 'k_proj', 'v_proj'].map((name) => `${prefix}.self_attn.${name}`),
      [`${prefix}.self_attn.o_proj`],
      ['gate_proj', 'up_proj'].map((name) => `${prefix}.mlp.${name}`),
      [`${prefix}.mlp.down_proj`],
    );
    linearModules.set(`${prefix}.self_attn.q_proj`, [queryWidth, width]);
    linearModules.set(`${prefix}.self_attn.k_proj`, [kvWidth, width]);
    linearModules.set(`${prefix}.self_attn.v_proj`, [kvWidth, width]);
    linearModules.set(`${prefix}.self_attn.o_proj`, [width, queryWidth]);
    linearModules.set(`${prefix}.mlp.gate_proj`, [mlpWidth, width]);
    linearModules.set(`${prefix}.mlp.up_proj`, [mlpWidth, width]);
    linearModules.set(`${prefix}.mlp.down_proj`, [width, mlpWidth]);
  }
  for (const [module, shape] of linearModules) parameters.set(`${module}.weight`, shape);
  parameters.set('model.norm.weight', [width]);
  if (!config.tiedEmbeddings) parameters.set('lm_head.weight', [config.vocabularySize, width]);
  return { parameters, linearModules, linearGroups };
};

const forward = (config: LlamaConfig, scope: Scope, tokens: Value, options: ForwardOptions = {}) => {
  const [batch, sequence] = tokens.type.shape as [number, number];
  const { packing, prefix: known } = options;
  const prefixLength = known?.[0]?.key.type.shape[2] ?? 0;
  const rotations = prefillRotations(config, batch, sequence, { positions: packing?.positions, prefixLength });
  // Whoever looks at a map wants it whole.
  const chunks = causalChunks(sequence, options.tap === undefined ? chunkCountFor(sequence) : 1, packing?.starts, prefixLength);
  const afterPrefix = (own: Value, layer: number, kind: keyof KeyValue): Value =>
    known === undefined ? own : concat([(known[layer] as KeyValue)[kind], own], 2);
  const keyValues: KeyValue[] = [];
  let hidden = embed(config, scope, tokens); // [batch · sequence, width]
  options.tap?.('hidden.0', hidden);
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `model.layers.${layer}`;
    const through = (before: Value): Value => {
      const { query, key, value } = projections(config, scope, prefix, before);
      const heads = (flat: Value): Value =>
        transpose(reshape(flat, [batch, sequence, (flat.type.shape[1] as number) / config.headWidth, config.headWidth]), [0, 2, 1, 3]);
      const rotatedKey = rotations.key(heads(key)); // [batch, kvHeads, sequence, headWidth]
      const valueHeads = heads(value);
      keyValues[layer] = { key: rotatedKey, value: valueHeads };
      const [keys, values] = [afterPrefix(rotatedKey, layer, 'key'), afterPrefix(valueHeads, layer, 'value')];
      const { mixed, maps } = attention(rotations.query(heads(query)), keys, values, chunks);
      options.tap?.(`attention.${layer}`, maps[0] as Value);
      const flat = reshape(transpose(mixed, [0, 2, 1, 3]), [batch * sequence, config.headCount * config.headWidth]);
      return afterAttention(config, scope, prefix, before, flat);
    };
    hidden = options.throughLayer?.(through, hidden) ?? through(hidden);
    options.tap?.(`hidden.${layer + 1}`, hidden);
  }
  return { hidden, keyValues };
};

/** Chunks of 128 queries up to eight of them: smaller ones spend more on their bookkeeping than they save. */
const chunkCountFor = (sequence: number): number => Math.min(8, Math.max(1, Math.round(sequence / 128)));

const decodeStep = (config: LlamaConfig, scope: Scope, { tokens, positions, mask, cache }: DecodeInputs) => {
  const { headWidth, headCount, kvHeadCount } = config;
  const batch = tokens.type.shape[0] as number;
  const capacity = mask.type.shape[3] as number;
  const keyTables = rotaryTables(config.rope, headWidth, capacity);
  const queryTables = rotaryTables(config.rope, headWidth, capacity, 1 / Math.sqrt(headWidth));
  const keyValues: KeyValue[] = [];
  let hidden = embed(config, scope, tokens); // [batch, width]
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `model.layers.${layer}`;
    const { query, key, value } = projections(config, scope, prefix, hidden);
    // With one token a sequence, [batch, heads · headWidth] and [batch, heads, 1, headWidth] are one layout.
    const heads = (flat: Value): Value => reshape(flat, [batch, (flat.type.shape[1] as number) / headWidth, 1, headWidth]);
    const rotatedQuery = rotaryEmbedding(heads(query), positions, queryTables.cosine, queryTables.sine);
    const rotatedKey = rotaryEmbedding(heads(key), positions, keyTables.cosine, keyTables.sine);
    const newValue = heads(value);
    const mixed = cachedAttention(
      reshape(rotatedQuery, [batch, kvHeadCount, headCount / kvHeadCount, headWidth]),
      reshape(rotatedKey, [batch, kvHeadCount, headWidth, 1]),
      newValue,
      cache[layer] as KeyValue,
      mask,
    );
    keyValues.push({ key: rotatedKey, value: newValue });
    hidden = afterAttention(config, scope, prefix, hidden, reshape(mixed, [batch, headCount * headWidth]));
  }
  return { logits: logits(config, scope, hidden), keyValues };
};

const finalNorm = (config: LlamaConfig, scope: Scope, hidden: Value): Value =>
  rmsNorm(hidden, scope.parameter('model.norm.weight', [config.width]), config.normEpsilon)[0];

const headName = (config: LlamaConfig): string => (config.tiedEmbeddings ? embeddingName : 'lm_head.weight');

const logits = (config: LlamaConfig, scope: Scope, hidden: Value): Value =>
  gemm(finalNorm(config, scope, hidden), scope.parameter(headName(config), [config.vocabularySize, config.width]), { transposeB: true });

const likelihood = (config: LlamaConfig, scope: Scope, hidden: Value, targets: Value): Value =>
  scope.frozenLikelihood?.(headName(config), finalNorm(config, scope, hidden), targets, config.vocabularySize) ??
  negativeLogLikelihood(logits(config, scope, hidden), targets);

const embed = (config: LlamaConfig, scope: Scope, tokens: Value): Value => {
  const flat = reshape(tokens, [-1]);
  return gather(scope.parameter(embeddingName, [config.vocabularySize, config.width]), flat, 0);
};

/** q, k and v of one layer: each [rows, its heads · headWidth]. */
const projections = (config: LlamaConfig, scope: Scope, prefix: string, hidden: Value) => {
  const [normed] = rmsNorm(hidden, scope.parameter(`${prefix}.input_layernorm.weight`, [config.width]), config.normEpsilon);
  const kvWidth = config.kvHeadCount * config.headWidth;
  const [query, key, value] = linears(
    scope,
    [
      { module: `${prefix}.self_attn.q_proj`, outputCount: config.headCount * config.headWidth, hasOutliers: true },
      { module: `${prefix}.self_attn.k_proj`, outputCount: kvWidth },
      { module: `${prefix}.self_attn.v_proj`, outputCount: kvWidth },
    ],
    normed,
  ) as [Value, Value, Value];
  return { query, key, value };
};

/** The rest of a layer: the output projection and the SwiGLU half, each with its residual. */
const afterAttention = (config: LlamaConfig, scope: Scope, prefix: string, residual: Value, mixed: Value): Value => {
  const attended = add(residual, linear(scope, `${prefix}.self_attn.o_proj`, mixed, config.width));
  const [normed] = rmsNorm(attended, scope.parameter(`${prefix}.post_attention_layernorm.weight`, [config.width]), config.normEpsilon);
  const halves = [`${prefix}.mlp.gate_proj`, `${prefix}.mlp.up_proj`];
  const [gate, up] = linears(
    scope,
    halves.map((module) => ({ module, outputCount: config.mlpWidth })),
    normed,
  ) as [Value, Value];
  const [down] = linears(scope, [{ module: `${prefix}.mlp.down_proj`, outputCount: config.width, hasOutliers: true }], mul(silu(gate), up));
  return add(attended, down as Value);
};

/** Rotations of queries and keys at their positions, from the prefix's end on unless others are given; the queries' carries attention's 1/√d. */
const prefillRotations = (
  config: LlamaConfig,
  batch: number,
  sequence: number,
  { positions: given, prefixLength }: { positions: Value | undefined; prefixLength: number },
) => {
  const rowPositions = Array.from({ length: batch * sequence }, (_, index) => BigInt(prefixLength + (index % sequence)));
  const positions = given ?? constant({ dataType: 'int64', shape: [batch, sequence], data: BigInt64Array.from(rowPositions) });
  const positionCount = prefixLength + sequence;
  const keyTables = rotaryTables(config.rope, config.headWidth, positionCount);
  const queryTables = rotaryTables(config.rope, config.headWidth, positionCount, 1 / Math.sqrt(config.headWidth));
  return {
    query: (heads: Value): Value => rotaryEmbedding(heads, positions, queryTables.cosine, queryTables.sine),
    key: (heads: Value): Value => rotaryEmbedding(heads, positions, keyTables.cosine, keyTables.sine),
  };
};
