import { UserError } from '../base/errors.ts';
import type { Decoder } from './decoder.ts';
import { llama } from './llama.ts';

/** Model families by the architecture that config.json names. */
const families: Readonly<Record<string, (config: unknown) => Decoder>> = {
  LlamaForCausalLM: llama,
};

/** The decoder that a config.json describes. Throws a UserError with the list of what is supported where it is none of them. */
export const decoderOf = (config: unknown): Decoder => {
  const named = typeof config === 'object' && config !== null && 'architectures' in config ? config.architectures : undefined;
  const architecture: unknown = Array.isArray(named) ? named[0] : undefined;
  const supported = Object.keys(families).join(', ');
  if (typeof architecture !== 'string') {
    throw new UserError(`config.json names no architecture ("architectures": [...]). Supported: ${supported}`);
  }
  const family = families[architecture];
  if (family === undefined) throw new UserError(`The architecture ${architecture} is not supported. Supported: ${supported}`);
  return family(config);
};
