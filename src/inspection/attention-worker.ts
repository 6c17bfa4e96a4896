import { workerData } from 'node:worker_threads';
import { serveWorker } from '../engines/worker-server.ts';
import { type MeterSpecification, openAttentionMeter } from './attention-meter.ts';

// The worker's side of `openThreadedMeter`: its only method is `measure`.

await serveWorker<undefined>(async () => {
  const { measure, release } = await openAttentionMeter(workerData as MeterSpecification);
  return { ready: undefined, call: (_method, [tokens]) => measure(tokens as readonly number[]), release };
});
