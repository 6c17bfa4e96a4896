import { constant, type Value } from '../graph/value.ts';

/** How positions are turned into rotations (Su et al. 2021), with Llama 3's stretching of the long wavelengths where asked for. */
export interface RopeSpecification {
  readonly theta: number;
  readonly scaling?: Llama3Scaling;
}

/** Llama 3.1's rule: wavelengths beyond the original context are divided by `factor`, short ones are kept, those between are mixed. */
export interface Llama3Scaling {
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalContextLength: number;
}

/** Radians per position of each pair of channels, headWidth / 2 of them: θ^(−2i/d). */
export const rotaryFrequencies = ({ theta, scaling }: RopeSpecification, headWidth: number): number[] =>
  Array.from({ length: headWidth / 2 }, (_, index) => {
    const frequency = theta ** ((-2 * index) / headWidth);
    return scaling === undefined ? frequency : stretched(frequency, scaling);
  });

const stretched = (frequency: number, scaling: Llama3Scaling): number => {
  const wavelength = (2 * Math.PI) / frequency;
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextLength } = scaling;
  if (wavelength < originalContextLength / highFrequencyFactor) return frequency;
  if (wavelength > originalContextLength / lowFrequencyFactor) return frequency / factor;
  const kept = (originalContextLength / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return (1 - kept) * (frequency / factor) + kept * frequency;
};

/**
 * cos and sin of every position's angles, [positions, headWidth / 2] each, times `scale`: attention's 1/√d costs nothing in the table that
 * rotates the queries.
 */
export const rotaryTables = (
  rope: RopeSpecification,
  headWidth: number,
  positionCount: number,
  scale = 1,
): { cosine: Value; sine: Value } => {
  const frequencies = rotaryFrequencies(rope, headWidth);
  const table = (curve: (angle: number) => number): Value => {
    const data = new Float32Array(positionCount * frequencies.length);
    for (let position = 0; position < positionCount; position++) {
      frequencies.forEach((frequency, index) => {
        data[position * frequencies.length + index] = scale * curve(position * frequency);
      });
    }
    return constant({ dataType: 'float32', shape: [positionCount, frequencies.length], data });
  };
  return { cosine: table(Math.cos), sine: table(Math.sin) };
};
