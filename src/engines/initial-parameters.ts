import { UserError } from '../base/errors.ts';
import { type Random, randomFrom } from '../base/random.ts';
import { elementCount, type Shape } from '../graph/tensor-type.ts';
import type { Decoder } from '../models/decoder.ts';
import { isAdapted, loraNames } from '../nn/scope.ts';
import type { LoraSpecification, Parameter, ParameterSet } from './engine.ts';

/** Names and shapes of the adapter's parameters. Throws a UserError where a target is no linear module of the model. */
export const loraShapes = (decoder: Decoder, lora: LoraSpecification): ReadonlyMap<string, Shape> => {
  const modules = [...decoder.linearModules];
  const known = [...new Set(modules.map(([module]) => module.slice(module.lastIndexOf('.') + 1)))];
  const unknown = lora.targets.filter((target) => !known.includes(target));
  if (unknown.length > 0 || lora.targets.length === 0) {
    throw new UserError(`LoRA targets: ${unknown.map((name) => `"${name}"`).join(', ') || 'none'} – this model has ${known.join(', ')}`);
  }
  const targets = new Set(lora.targets);
  const shapes = new Map<string, Shape>();
  for (const [module, [outputs, inputs]] of modules) {
    if (!isAdapted(module, targets)) continue;
    const names = loraNames(module);
    shapes.set(names.a, [lora.rank, inputs]);
    shapes.set(names.b, [outputs, lora.rank]);
  }
  return shapes;
};

/**
 * A fresh adapter: A uniform in ±1/√inputs (Kaiming's uniform rule with a = √5, PEFT's default), B zero, so that it changes nothing yet.
 * Each tensor has a random stream of its own name.
 */
export const initialAdapter = (decoder: Decoder, lora: LoraSpecification): ParameterSet =>
  Object.fromEntries(
    [...loraShapes(decoder, lora)].map(([name, shape]) => {
      if (name.endsWith(loraNames('').b)) return [name, drawn(shape, () => 0)];
      const random = randomFrom(lora.seed, 'lora', name);
      const bound = 1 / Math.sqrt(shape[1] as number);
      return [name, drawn(shape, () => (2 * random.uniform() - 1) * bound)];
    }),
  );

/** Fresh weights for a whole model: matrices normal with the config's standard deviation, norms 1 (transformers' rule for Llama). */
export const initialWeights = (decoder: Decoder, seed: number): ParameterSet =>
  Object.fromEntries(
    [...decoder.parameters].map(([name, shape]) => {
      const random: Random = randomFrom(seed, 'weights', name);
      return [name, drawn(shape, shape.length === 1 ? () => 1 : () => random.normal() * decoder.initializerRange)];
    }),
  );

const drawn = (shape: Shape, draw: () => number): Parameter => {
  const data = new Float32Array(elementCount(shape));
  for (let index = 0; index < data.length; index++) data[index] = draw();
  return { shape, data };
};
