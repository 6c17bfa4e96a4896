import { z } from 'zod';
import { UserError } from '../base/errors.ts';
import { parseHubReference } from './hub-reference.ts';

/** What an adapter is apart from its numbers. `LoraSpecification` of the engine is one. */
export interface AdapterShape {
  readonly rank: number;
  /** The update is scaled by alpha / rank. */
  readonly alpha: number;
  /** Module names as PEFT names them: q_proj, k_proj … */
  readonly targets: readonly string[];
  readonly dropout: number;
}

/**
 * The content of adapter_config.json. Only keys that every release of PEFT knows are written: an unknown one stops older releases.
 */
export const adapterConfigOf = (shape: AdapterShape, baseModel: string): Record<string, unknown> => ({
  ...baseModelKeys(baseModel),
  bias: 'none',
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  lora_alpha: shape.alpha,
  lora_dropout: shape.dropout,
  modules_to_save: null,
  peft_type: 'LORA',
  r: shape.rank,
  target_modules: [...shape.targets].sort(),
  task_type: 'CAUSAL_LM',
  use_dora: false,
  use_rslora: false,
});

/** PEFT names a hub's model without `hub:`, and its revision under a key of its own. */
const baseModelKeys = (baseModel: string): Record<string, unknown> => {
  const reference = baseModel.startsWith('hub:') ? parseHubReference(baseModel) : undefined;
  if (reference === undefined) return { base_model_name_or_path: baseModel };
  const { name, revision } = reference;
  return { base_model_name_or_path: name, ...(revision === 'main' ? {} : { revision }) };
};

const readSchema = z.object({
  peft_type: z.literal('LORA'),
  r: z.number().int().positive(),
  lora_alpha: z.number().positive(),
  lora_dropout: z.number().min(0).max(1).default(0),
  target_modules: z.union([z.array(z.string()), z.string()]),
  use_rslora: z.boolean().default(false),
});

/** Keys that change nothing in what the adapter computes once it is trained. */
const harmless: ReadonlySet<string> = new Set([
  ...Object.keys(readSchema.shape),
  ...['auto_mapping', 'base_model_name_or_path', 'inference_mode', 'megatron_core', 'peft_version', 'qalora_group_size', 'revision'],
]);

/** Keys of which only these values mean what retort computes. */
const onlyValues: Readonly<Record<string, readonly unknown[]>> = {
  bias: ['none'],
  task_type: ['CAUSAL_LM', null],
  // Other initialisations (pissa, olora, corda, loftq) change the base weights as well, and those are not in the adapter.
  init_lora_weights: [true, false, 'gaussian'],
};

/** Parses adapter_config.json. What retort does not compute (DoRA, modules_to_save, rank_pattern …) is refused by its key. */
export const parseAdapterConfig = (content: unknown, path: string): AdapterShape & { readonly targetPattern?: string } => {
  const parsed = readSchema.safeParse(content);
  if (!parsed.success) throw new UserError(`${path} is no LoRA configuration that retort reads:\n${z.prettifyError(parsed.error)}`);
  for (const [key, value] of Object.entries(content instanceof Object ? content : {})) {
    const allowed = Object.hasOwn(onlyValues, key) ? onlyValues[key] : undefined;
    const isFine = allowed === undefined ? harmless.has(key) || isOff(value) : allowed.includes(value);
    if (!isFine) {
      throw new UserError(
        `${path}: ${key} is ${JSON.stringify(value)}, which retort does not support` +
          `${allowed === undefined ? '' : `; it supports ${allowed.map((item) => JSON.stringify(item)).join(', ')}`}. ` +
          'The adapter would compute something else here than where it was trained.',
      );
    }
  }
  const { r, lora_alpha: alpha, lora_dropout: dropout, target_modules: targets, use_rslora: isRankStabilised } = parsed.data;
  return {
    rank: r,
    // rsLoRA scales by alpha / √r (Kalajdzievski 2023): the same update as alpha · √r / r.
    alpha: isRankStabilised ? alpha * Math.sqrt(r) : alpha,
    dropout,
    ...(typeof targets === 'string' ? { targets: [], targetPattern: targets } : { targets }),
  };
};

const isOff = (value: unknown): boolean =>
  value === null || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
