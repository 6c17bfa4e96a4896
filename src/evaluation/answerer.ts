import { sha256 } from '../base/folders.ts';
import { randomFrom } from '../base/random.ts';
import type { Engine } from '../engines/engine.ts';
import { costUsd, tokenCountOf } from '../responses/spending.ts';
import type { Prices } from '../teachers/prices.ts';
import type { Billed, Teacher } from '../teachers/teacher.ts';
import type { ChatMessage } from '../text/chat-message.ts';
import type { ChatTemplate } from '../text/chat-template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import { promptTokens } from '../text/training-row.ts';
import type { AnswerRecord } from './answer-record.ts';

/** How answers are drawn in an evaluation. */
export interface AnswerSampling {
  readonly maximumTokens: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** Each question draws from a stream of its own that follows from this and its id: the order of questions changes nothing. */
  readonly seed: number;
}

export interface Question {
  readonly id: string;
  /** The question alone: what recordings are looked up by. */
  readonly question: string;
  /** What the model is asked: question, instruction and whatever else. */
  readonly messages: readonly ChatMessage[];
}

export interface GivenAnswer {
  readonly text: string;
  /** Token ids with the end token, where they are known. */
  readonly tokens: readonly number[] | undefined;
  /** As counted by the model itself or reported by the provider; undefined where neither is so. */
  readonly tokenCount: number | undefined;
  readonly promptTokenCount: number | undefined;
  readonly spent?: NonNullable<AnswerRecord['spent']>;
  readonly finishReason: 'stop' | 'length' | 'content-filter' | 'other';
}

/** Whatever answers questions: a model in an engine, or a teacher behind an API. */
export interface Answerer {
  /** Decides the answers together with the messages; hashed into each record. */
  readonly settings: AnswererSettings;
  /** SHA-256 of the prompt as the model gets it. */
  promptHash(question: Question): string;
  /** Hands out each answer as it comes, so that none is lost when a later one fails; then throws what failed. */
  answer(questions: readonly Question[], onAnswer: (index: number, answer: GivenAnswer) => void, signal?: AbortSignal): Promise<void>;
  /** Questions that go into one call; each answer is saved as it comes. */
  readonly chunkSize: number;
}

export interface AnswererSettings {
  readonly [key: string]: string | number | readonly number[];
}

export interface EngineAnswererOptions {
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  /** Hash of the weights: base and adapter. Answers of other weights are never taken for these. */
  readonly modelHash: string;
  readonly endTokens: readonly number[];
  readonly sampling: AnswerSampling;
  readonly batchSize?: number;
  /** Questions handed to the engine at once, which keeps its batch full until they run out; 512 when absent. */
  readonly chunkSize?: number;
}

/** Answers by sampling a model through its own chat template. */
export const engineAnswerer = (options: EngineAnswererOptions): Answerer => {
  const { engine, tokenizer, template, modelHash, endTokens, sampling, batchSize, chunkSize = 512 } = options;
  const tokensOf = (question: Question) => promptTokens(template, tokenizer, question.messages);
  return {
    chunkSize,
    settings: { ...sampling, model: modelHash, template: template.hash, tokenizer: tokenizer.hash, endTokens },
    promptHash: (question) => sha256(JSON.stringify(tokensOf(question))),
    answer: async (questions, onAnswer, signal) => {
      const requests = questions.map((question) => ({ tokens: tokensOf(question), seed: seedOf(sampling, question) }));
      const drawn = {
        maximumTokens: sampling.maximumTokens,
        temperature: sampling.temperature,
        topP: sampling.topP,
        endTokens,
        ...(batchSize === undefined ? {} : { batchSize }),
      };
      await engine.sample(requests, drawn, {
        onSample: (index, sample) =>
          onAnswer(index, {
            text: tokenizer.decode(sample.tokens, { skipSpecialTokens: true }),
            tokens: sample.tokens,
            tokenCount: sample.tokens.length,
            promptTokenCount: requests[index]?.tokens.length ?? 0,
            finishReason: sample.finishReason,
          }),
        ...(signal !== undefined && { signal }),
      });
    },
  };
};

/** Answers by asking a teacher, `teacher.concurrency` questions at a time, as a student is asked: without any priming. */
export const teacherAnswerer = (teacher: Teacher, sampling: AnswerSampling, prices?: Prices): Answerer => ({
  chunkSize: 4 * teacher.concurrency,
  // Where a teacher is reached decides nothing: a server that moved gives the same answers.
  settings: { ...sampling, teacher: JSON.stringify({ ...teacher.identity, location: undefined }) },
  promptHash: (question) => sha256(JSON.stringify(question.messages)),
  answer: async (questions, onAnswer, signal) => {
    const queue = [...questions.entries()];
    const { maximumTokens, temperature, topP } = sampling;
    // Workers share one queue; when one fails, the others end what they have under way and begin nothing new.
    const work = async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const [index, question] = next;
        try {
          const answer = await teacher.generate({
            messages: question.messages,
            sampling: { maximumTokens, temperature, topP, seed: seedOf(sampling, question) },
            exampleId: question.id,
            question: question.question,
            strategy: 'none',
            sampleIndex: 0,
            ...(signal === undefined ? {} : { signal }),
          });
          onAnswer(index, {
            text: answer.text,
            tokens: answer.tokens,
            tokenCount: answer.usage?.completionTokens,
            promptTokenCount: answer.usage?.promptTokens,
            ...(answer.billed !== undefined && { spent: spentOn(answer.billed, prices) }),
            finishReason: answer.finishReason,
          });
        } catch (error) {
          queue.length = 0;
          throw error;
        }
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: Math.min(teacher.concurrency, questions.length) }, work));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  },
});

const spentOn = ({ requestCount, usage }: Billed, prices: Prices | undefined): NonNullable<AnswerRecord['spent']> => ({
  requests: requestCount,
  tokens: tokenCountOf(usage),
  ...(prices !== undefined && usage !== undefined && { usd: costUsd(usage, prices) }),
});

const seedOf = (sampling: AnswerSampling, question: Question): number => randomFrom(sampling.seed, 'answer', question.id).integer(2 ** 31);
