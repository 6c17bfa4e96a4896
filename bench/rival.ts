import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';

/** A public tool in a process of its own, which measures when it is told to: rivals/protocol.py. */
export interface Rival {
  /** Versions of what it is made of. */
  readonly versions: Readonly<Record<string, string>>;
  measure(request: object): Promise<RivalMeasurement>;
  stop(): Promise<void>;
}

const measurementSchema = z.object({
  seconds: z.number(),
  tokenCount: z.number(),
  peakMemoryBytes: z.number(),
  warmupSeconds: z.number().optional(),
});
export type RivalMeasurement = z.infer<typeof measurementSchema>;
const readySchema = z.object({ ready: z.literal(true), versions: z.record(z.string(), z.string()) });
const errorSchema = z.object({ error: z.string() });

/** Starts a script of rivals/ and waits until it has loaded. What it prints besides is shown only if it fails. */
export const startRival = async (python: string, script: string, options: object): Promise<Rival> => {
  const child = spawn(python, ['-B', '-u', join(import.meta.dirname, 'rivals', script)], { stdio: ['pipe', 'pipe', 'pipe'] });
  const complaints: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk.toString()));
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`${script} ended (${code ?? signal}): ${complaints.join('').slice(-500)}`)));
  });
  ended.catch(() => undefined); // awaited only while an answer is due
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (request: object): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await Promise.race([lines.next(), ended]);
    const answer: unknown = JSON.parse(String(line.value));
    const failed = errorSchema.safeParse(answer);
    if (failed.success) throw new Error(failed.data.error);
    return answer;
  };
  try {
    const { versions } = readySchema.parse(await ask(options));
    return { versions, measure: async (request) => measurementSchema.parse(await ask(request)), stop: () => stopped(child) };
  } catch (error) {
    await stopped(child);
    throw error;
  }
};

const stopped = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) {
      resolve();
      return;
    }
    child.once('exit', () => resolve());
    child.stdin?.end(); // the script's loop over its input ends, and with it the process
  });
