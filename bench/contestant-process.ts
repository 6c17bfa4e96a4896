import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { execPath } from 'node:process';
import { createInterface } from 'node:readline';
import { z } from 'zod';

/**
 * A contestant in a process of its own, so that its memory is counted by itself, which loads once and measures when it is told to: one
 * JSON line in, one out (protocol.ts, rivals/protocol.py).
 */
export interface ContestantProcess {
  /** Versions of what it is made of. */
  readonly versions: Readonly<Record<string, string>>;
  measure(request: object): Promise<ProcessMeasurement>;
  stop(): Promise<void>;
}

const measurementSchema = z.object({ seconds: z.number(), tokenCount: z.number(), peakMemoryBytes: z.number() });
export type ProcessMeasurement = z.infer<typeof measurementSchema>;
const readySchema = z.object({ ready: z.literal(true), versions: z.record(z.string(), z.string()) });
const errorSchema = z.object({ error: z.string() });

/** A public tool, through a script of rivals/. */
export const startRival = (python: string, script: string, options: object): Promise<ContestantProcess> =>
  startContestant(python, ['-B', '-u', join(import.meta.dirname, 'rivals', script)], options);

/** Retort itself, through a script of this folder. */
export const startOurs = (script: string, options: object): Promise<ContestantProcess> =>
  startContestant(execPath, [join(import.meta.dirname, script)], options);

/** Starts a contestant and waits until it has loaded. What it prints besides is shown only if it fails. */
const startContestant = async (command: string, commandArguments: readonly string[], options: object): Promise<ContestantProcess> => {
  const child = spawn(command, commandArguments, { stdio: ['pipe', 'pipe', 'pipe'] });
  const complaints: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk.toString()));
  child.stdin.on('error', () => undefined); // a process that has ended is reported below
  const ended = new Promise<never>((_, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      reject(new Error(`${commandArguments.at(-1)} ended (${code ?? signal}): ${complaints.join('').slice(-500)}`));
    });
  });
  ended.catch(() => undefined); // awaited only while an answer is due
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (request: object): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await Promise.race([lines.next(), ended]);
    if (line.done === true) return ended;
    const answer: unknown = JSON.parse(line.value);
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
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
      resolve();
      return;
    }
    child.once('exit', () => resolve());
    child.stdin?.end(); // its loop over its input ends, and with it the process
  });
