import type { ChatMessage } from '../priming/strategy.ts';

export type { ChatMessage } from '../priming/strategy.ts';

/** A source of answers: a model behind an API, a server, one in this process, or a recording. */
export interface Teacher {
  /** Provider, model and revision as far as known: part of every answer's key. Never holds a credential. */
  readonly identity: TeacherIdentity;
  /** How many requests may be under way at once; the collector keeps to it. */
  readonly concurrency: number;
  /** One answer. Throws a TeacherError that says whether trying again can help. */
  generate(request: TeacherRequest): Promise<TeacherAnswer>;
  release(): Promise<void>;
}

export interface TeacherIdentity {
  readonly kind: string;
  readonly model: string;
  /** A base URL, folder or file, without credentials. */
  readonly location?: string;
  readonly revision?: string;
}

export interface TeacherRequest {
  readonly messages: readonly ChatMessage[];
  readonly sampling: TeacherSampling;
  /** For teachers that look answers up: the question's id and the strategy's name. */
  readonly exampleId: string;
  readonly strategy: string;
  readonly sampleIndex: number;
  readonly signal?: AbortSignal;
}

export interface TeacherSampling {
  readonly maximumTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
}

export type FinishReason = 'stop' | 'length' | 'content-filter' | 'other';

export interface TeacherAnswer {
  readonly text: string;
  /** Where the teacher's own tokenizer is known. */
  readonly tokens?: readonly number[];
  readonly finishReason: FinishReason;
  readonly usage: Usage;
  /** The model's name as the provider reported it. */
  readonly reportedModel?: string;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
}
