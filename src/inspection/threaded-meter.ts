import { Worker } from 'node:worker_threads';
import { InternalError } from '../base/errors.ts';
import { receivedError, type SentError } from '../engines/worker-protocol.ts';
import type { AttentionMeter, MeterSpecification } from './attention-meter.ts';
import type { SubjectMeasures } from './attention-study.ts';

export type MeterRequest = { readonly kind: 'measure'; readonly tokens: readonly number[] } | { readonly kind: 'release' };

export type MeterReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'measured'; readonly measures: SubjectMeasures[] }
  | { readonly kind: 'failed'; readonly error: SentError };

/** A meter in a thread of its own, so that this one stays free and several can work side by side. One text at a time. */
export const openThreadedMeter = async (specification: MeterSpecification): Promise<AttentionMeter> => {
  // Beside this file, in TypeScript in the clone and in JavaScript in the package.
  const file = new URL(import.meta.url.endsWith('.ts') ? './attention-worker.ts' : './attention-worker.js', import.meta.url);
  const worker = new Worker(file, { workerData: specification });
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const nextReply = (): Promise<MeterReply> =>
    new Promise((resolve, reject) => {
      const settle = (work: () => void) => {
        worker.off('message', onMessage).off('error', onError).off('exit', onExit);
        work();
      };
      const onMessage = (reply: MeterReply) =>
        settle(() => (reply.kind === 'failed' ? reject(receivedError(reply.error)) : resolve(reply)));
      const onError = (reason: unknown) => settle(() => reject(reason));
      const onExit = (code: number) => settle(() => reject(new InternalError(`the thread that measures ended by itself (code ${code})`)));
      worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    });
  await nextReply();
  const send = (request: MeterRequest): void => worker.postMessage(request);
  return {
    measure: async (tokens) => {
      const reply = nextReply();
      send({ kind: 'measure', tokens });
      const answer = await reply;
      if (answer.kind !== 'measured') throw new InternalError(`the thread that measures answered ${answer.kind}`);
      return answer.measures;
    },
    release: async () => {
      send({ kind: 'release' });
      await exited;
    },
  };
};
