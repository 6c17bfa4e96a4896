import { stdin, stdout } from 'node:process';
import { createInterface } from 'node:readline';
import { messageOf } from '../src/base/errors.ts';
import { peakMemoryBytes, resetPeakMemory } from './machine.ts';

/** What one measurement did and how long it took. */
export interface Timed {
  readonly seconds: number;
  readonly tokenCount: number;
}

/** A loaded contestant. */
export interface Loaded {
  measure(request: unknown): Promise<Timed>;
  release(): Promise<void>;
}

/** Answers contestant-process.ts: `start` the first line of input, the loaded contestant every further one, until the input ends. */
export const serve = async (start: (options: unknown) => Promise<Loaded>): Promise<void> => {
  const say = (message: object) => stdout.write(`${JSON.stringify(message)}\n`);
  let loaded: Loaded | undefined;
  try {
    for await (const line of createInterface({ input: stdin })) {
      const content: unknown = JSON.parse(line);
      try {
        if (loaded === undefined) {
          loaded = await start(content);
          say({ ready: true, versions: {} });
          continue;
        }
        await resetPeakMemory();
        const timed = await loaded.measure(content);
        say({ ...timed, peakMemoryBytes: peakMemoryBytes() });
      } catch (error) {
        say({ error: messageOf(error) });
        if (loaded === undefined) return;
      }
    }
  } finally {
    await loaded?.release();
  }
};
