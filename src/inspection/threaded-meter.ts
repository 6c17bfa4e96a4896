import { startWorker } from '../engines/worker-client.ts';
import type { AttentionMeter, MeterSpecification } from './attention-meter.ts';

/** A meter in a thread of its own, so that this one stays free and several can work side by side. One text at a time. */
export const openThreadedMeter = async (specification: MeterSpecification): Promise<AttentionMeter> => {
  const { call, release } = await startWorker<undefined>(new URL('./attention-worker.ts', import.meta.url), specification);
  return { measure: (tokens) => call('measure', [tokens]), release };
};
