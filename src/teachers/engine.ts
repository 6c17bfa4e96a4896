import type { Engine, Sample } from '../engines/engine.ts';
import type { ModelText } from '../text/model-text.ts';
import { promptTokens } from '../text/training-row.ts';
import { separateReasoning } from './reasoning.ts';
import type { Teacher, TeacherAnswer, TeacherIdentity, TeacherRequest } from './teacher.ts';
import { TeacherError } from './teacher-error.ts';

export interface EngineTeacherOptions {
  /** What samples the model. Released with the teacher. */
  readonly engine: Engine;
  readonly text: ModelText;
  /** The model's name, the revision of its weights, and where they lie. The chat template's hash is added. */
  readonly identity: Omit<TeacherIdentity, 'kind' | 'templateHash'>;
  /** Questions answered together; 32 when absent. */
  readonly batchSize?: number;
}

/** Requests that are taken on, in batches. */
const queueLength = 8;

interface WaitingRequest {
  readonly request: TeacherRequest;
  readonly tokens: readonly number[];
  readonly resolve: (answer: TeacherAnswer) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * A local model as a teacher. It takes many times as many requests as make a batch, so that the engine can fill a place anew as soon as an
 * answer ends; each answer is handed out at once. What a question is answered does not depend on the batch it was in.
 */
export const engineTeacher = (options: EngineTeacherOptions): Teacher => {
  const { engine, text, batchSize = 32 } = options;
  let waiting: WaitingRequest[] = [];
  let working: Promise<void> | undefined;

  const work = async (): Promise<void> => {
    // All that is asked in one turn of the event loop goes into the first batch together.
    await new Promise((resolve) => setImmediate(resolve));
    for (let batch = takeBatch(); batch.length > 0; batch = takeBatch()) await answerBatch(engine, text, batch, batchSize);
    working = undefined;
  };

  /** The next requests that share their sampling options, without those that nobody waits for any more. */
  const takeBatch = (): WaitingRequest[] => {
    for (const { request, reject } of waiting) if (request.signal?.aborted === true) reject(request.signal.reason);
    const alive = waiting.filter(({ request }) => request.signal?.aborted !== true);
    const batch = alive
      .filter((item) => alive[0] !== undefined && samplingName(item) === samplingName(alive[0]))
      .slice(0, queueLength * batchSize);
    waiting = alive.filter((item) => !batch.includes(item));
    return batch;
  };

  return {
    identity: { kind: 'local', templateHash: text.template.hash, ...options.identity },
    concurrency: queueLength * batchSize,
    generate: async (request) => {
      const tokens = promptTokens(text.template, text.tokenizer, request.messages);
      checkFits(tokens.length, request.sampling.maximumTokens, engine.information.contextLength);
      return new Promise((resolve, reject) => {
        waiting.push({ request, tokens, resolve, reject });
        working ??= work();
      });
    },
    release: async () => {
      for (const { reject } of waiting) reject(new TeacherError('The teacher was released.', { retry: 'never', scope: 'all' }));
      waiting = [];
      await working;
      await engine.release();
    },
  };
};

const answerBatch = async (engine: Engine, text: ModelText, batch: readonly WaitingRequest[], batchSize: number): Promise<void> => {
  const sampling = batch[0]?.request.sampling;
  if (sampling === undefined) return;
  try {
    await engine.sample(
      batch.map(({ request, tokens }) => ({ tokens, seed: request.sampling.seed })),
      {
        maximumTokens: sampling.maximumTokens,
        temperature: sampling.temperature,
        topP: sampling.topP,
        endTokens: text.endTokens,
        batchSize: Math.min(batch.length, batchSize),
      },
      {
        onSample: (index, sample) => {
          const waiting = batch[index];
          waiting?.resolve(answerOf(sample, waiting.tokens.length, text));
        },
        // One run serves them all: when one is called off, so is what is left of the others, which collection asks for again.
        signal: AbortSignal.any(batch.flatMap(({ request }) => request.signal ?? [])),
      },
    );
  } catch (thrown) {
    for (const { reject } of batch) reject(thrown);
  }
};

const answerOf = (sample: Sample, promptTokenCount: number, { tokenizer }: ModelText): TeacherAnswer => {
  const { text, reasoning } = separateReasoning(tokenizer.decode(sample.tokens, { skipSpecialTokens: true }));
  return {
    text,
    ...(reasoning === undefined ? {} : { reasoning }),
    tokens: [...sample.tokens],
    finishReason: sample.finishReason,
    usage: { promptTokens: promptTokenCount, completionTokens: sample.tokens.length },
  };
};

const samplingName = ({ request: { sampling } }: WaitingRequest): string =>
  JSON.stringify([sampling.maximumTokens, sampling.temperature, sampling.topP]);

const checkFits = (promptTokenCount: number, maximumTokens: number, contextLength: number): void => {
  if (promptTokenCount + maximumTokens > contextLength)
    throw new TeacherError(
      `The prompt has ${promptTokenCount} tokens, and ${maximumTokens} more may be answered; the model's context holds ${contextLength}. Lower maximumTokens or leave the question out.`,
      { retry: 'never', scope: 'question' },
    );
};
