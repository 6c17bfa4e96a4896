import type { ChatMessage } from '../text/chat-message.ts';

export type { ChatMessage };

/** A source of answers: a model behind an API, a server, one in this process, or a recording. */
export interface Teacher {
  /** Provider, model and revision as far as known: part of every answer's key. Never holds a credential. */
  readonly identity: TeacherIdentity;
  /** How many requests may be under way at once; the collector keeps to it. */
  readonly concurrency: number;
  /** Asks nobody, so that answers without a usage cost nothing. */
  readonly isFree?: boolean;
  /** Looks at all that will be asked before the first question is; throws where it is certain to fail (answers missing in a recording). */
  prepare?(planned: readonly PlannedRequest[]): Promise<void>;
  /** One answer. Throws a TeacherError that says whether trying again can help. */
  generate(request: TeacherRequest): Promise<TeacherAnswer>;
  release(): Promise<void>;
}

export interface TeacherIdentity {
  readonly kind: string;
  readonly model: string;
  /** Who serves it, where that is not this machine: a host name. The same name at another provider is another teacher. */
  readonly provider?: string;
  /** A hash of the weights or a revision's name, where it is known. */
  readonly revision?: string;
  /** Of the chat template, where it is applied on this side. */
  readonly templateHash?: string;
  /** Settings that decide answers beside the sampling: parameters left out, reasoning effort. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  /** A base URL, folder or file, without credentials. For reading only: a server or folder that moves stays the same teacher. */
  readonly location?: string;
}

/** What teachers that look answers up know a request by. */
export interface PlannedRequest {
  readonly exampleId: string;
  /** The question alone, without instruction and priming. */
  readonly question: string;
  readonly strategy: string;
  readonly sampleIndex: number;
}

export interface TeacherRequest extends PlannedRequest {
  readonly messages: readonly ChatMessage[];
  readonly sampling: TeacherSampling;
  readonly signal?: AbortSignal;
}

export interface TeacherSampling {
  readonly maximumTokens: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** Of this one request; the collector derives it from the config's seed, the question and the sample's index. */
  readonly seed: number;
}

export type FinishReason = 'stop' | 'length' | 'content-filter' | 'other';

export interface TeacherAnswer {
  readonly text: string;
  /** What a reasoning model thought before it answered, where it says so. Not part of `text`. */
  readonly reasoning?: string;
  /** Where the teacher's own tokenizer is known; the end token included. */
  readonly tokens?: readonly number[];
  readonly finishReason: FinishReason;
  /** Absent where the teacher does not count. */
  readonly usage?: Usage;
  /** The model's name as the provider reported it. */
  readonly reportedModel?: string;
  /** What the provider says is left of its limits. */
  readonly rateLimit?: RateLimit;
  /** What all tries for this answer took, where whoever asked more than once counted them. */
  readonly billed?: Billed;
}

export interface Billed {
  readonly requestCount: number;
  /** Reported, or where nobody said what a try cost, assumed in full. */
  readonly usage: Usage | undefined;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Of the prompt's tokens, those that the provider had cached. */
  readonly cachedPromptTokens?: number;
  /** Of the completion's tokens, those that were thought and not said. */
  readonly reasoningTokens?: number;
}

/** From a provider's rate-limit headers. */
export interface RateLimit {
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  readonly remainingRequests?: number;
  readonly remainingTokens?: number;
}
