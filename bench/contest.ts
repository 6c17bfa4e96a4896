import { messageOf } from '../src/base/errors.ts';
import type { ContestantProcess } from './contestant-process.ts';
import type { Contestant, Measurement } from './figures.ts';

/** Something that is measured once a round. */
export interface Entry {
  readonly name: string;
  measure(): Promise<Measurement>;
}

/** An entry that sends a process this request each round. */
export const entryOf = (name: string, process: ContestantProcess, request: object): Entry => ({
  name,
  measure: async () => {
    const { seconds, tokenCount, peakMemoryBytes } = await process.measure(request);
    return { tokensPerSecond: tokenCount / seconds, peakMemoryBytes };
  },
});

/** Measures all entries in turn, round after round, so that a machine whose speed wanders treats them alike. One that fails drops out. */
export const contest = async (entries: readonly Entry[], roundCount: number, log: (line: string) => void): Promise<Contestant[]> => {
  const measurements = entries.map((): Measurement[] => []);
  const failures = new Map<number, string>();
  for (let round = 0; round < roundCount; round++) {
    for (const [index, entry] of entries.entries()) {
      if (failures.has(index)) continue;
      try {
        const measurement = await entry.measure();
        measurements[index]?.push(measurement);
        log(`round ${round + 1} of ${roundCount}, ${entry.name}: ${measurement.tokensPerSecond.toFixed(1)} tokens/s`);
      } catch (error) {
        failures.set(index, messageOf(error));
        log(`${entry.name} failed: ${messageOf(error)}`);
      }
    }
  }
  return entries.map(({ name }, index) => {
    const failure = failures.get(index);
    return { name, measurements: failure === undefined ? (measurements[index] ?? []) : [], ...(failure !== undefined && { failure }) };
  });
};
