import { parentPort, workerData } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import { sentError } from '../engines/worker-protocol.ts';
import { type MeterSpecification, openAttentionMeter } from './attention-meter.ts';
import type { MeterReply, MeterRequest } from './threaded-meter.ts';

// The worker's side: one meter, whose texts are measured one after the other.

const port = parentPort;
if (port === null) throw new InternalError('attention-worker.ts runs as a worker thread only');
const post = (reply: MeterReply): void => port.postMessage(reply);

try {
  const meter = await openAttentionMeter(workerData as MeterSpecification);
  let last: Promise<void> = Promise.resolve();
  port.on('message', (request: MeterRequest) => {
    last = last.then(async () => {
      if (request.kind === 'release') {
        await meter.release();
        // Nothing keeps the thread alive any more, so that it ends by itself: ended inside a run it would take the process with it.
        port.close();
        return;
      }
      try {
        post({ kind: 'measured', measures: await meter.measure(request.tokens) });
      } catch (thrown) {
        post({ kind: 'failed', error: sentError(thrown) });
      }
    });
  });
  post({ kind: 'ready' });
} catch (thrown) {
  post({ kind: 'failed', error: sentError(thrown) });
  port.close();
}
