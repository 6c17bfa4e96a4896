// A fault server in a process of its own: `node fault-server-process.ts '{options}'` says its address, then answers each line of input with what it counted.
import { stdin, stdout } from 'node:process';
import { createInterface } from 'node:readline';
import { type Fault, type FaultServerOptions, startFaultServer } from '../src/teachers/fault-server.ts';

export interface ServerProcessOptions extends Pick<FaultServerOptions, 'seed' | 'latencyMs' | 'retryAfterSeconds'> {
  readonly faults?: Readonly<Partial<Record<Fault, number>>>;
  /** Words of an answer, about as many tokens; absent: a few. */
  readonly answerWords?: number;
}

const { answerWords, ...options }: ServerProcessOptions = JSON.parse(process.argv[2] ?? '{}');
const text = `${'word '.repeat(answerWords ?? 0)}\n#### 1`;
const server = await startFaultServer({ ...options, ...(answerWords !== undefined && { answer: () => text }) });
const say = (value: object): boolean => stdout.write(`${JSON.stringify(value)}\n`);
say({ baseUrl: server.baseUrl });
for await (const _ of createInterface({ input: stdin })) {
  say({
    servedCount: server.served.length,
    billedCount: server.billedCount(),
    distinctCount: server.billed.size,
    faultyBillCount: server.served.filter(({ isBilled, fault }) => isBilled && fault !== undefined).length,
  });
}
await server.close();
