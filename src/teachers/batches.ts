import type { Teacher, TeacherAnswer, TeacherIdentity, TeacherRequest } from './teacher.ts';
import type { TeacherError } from './teacher-error.ts';

/** What a provider takes in one batch. */
export interface BatchLimits {
  readonly requestCount: number;
  readonly sizeBytes: number;
}

/** How requests and answers stand in the lines of a batch. Needs no connection: files are written and read with it, too. */
export interface BatchFormat {
  readonly limits: BatchLimits;
  /** What a batch costs, as a share of the same requests one by one. */
  readonly priceShare: number;
  /** One request as a line of JSON. `id` comes back with its answer. */
  requestLine(id: string, request: Pick<TeacherRequest, 'messages' | 'sampling'>): string;
  /** Undefined where the value is no line of an output. */
  parseResult(value: unknown): BatchResult | undefined;
}

/** What is known of a teacher without asking it. */
export interface TeacherProfile {
  readonly identity: TeacherIdentity;
  /** Batch files are written and read with it; their answers have the keys that asking the same server would give them. */
  readonly batchFormat: BatchFormat;
}

export interface BatchResult {
  readonly id: string;
  /** An error that says `later` concerns a request that was not dealt with: it may go into the next batch. */
  readonly outcome: TeacherAnswer | TeacherError;
}

/** A batch as whoever submits it knows it. */
export interface BatchJob {
  /** Its own for ever: providers that keep a name can be asked for it. */
  readonly name: string;
  /** The ids of its requests. */
  readonly ids: readonly string[];
  /** Milliseconds since 1970, before it was submitted. */
  readonly plannedAtMs: number;
  /** What `mark` said before it was submitted. */
  readonly mark?: string | undefined;
}

/** How a batch stands at the provider. */
export type BatchState =
  | { readonly status: 'under-way' }
  /** All that will come is there. */
  | { readonly status: 'ended'; readonly sources: readonly BatchSource[] }
  /** Nothing of it was or will be dealt with. `isTooMuch`: at once; parts of it would be taken. */
  | { readonly status: 'refused'; readonly problem: TeacherError; readonly isTooMuch: boolean };

/** Where the results of an ended batch lie. */
export interface BatchSource {
  /** The provider's name for it. */
  readonly id: string;
  /** Results that there are by the provider's own count: with fewer of them it has not come whole. */
  readonly resultCount: number;
}

/** A batch that may or may not have reached the provider. */
export type FoundBatch =
  | { readonly found: 'yes'; readonly providerId: string }
  | { readonly found: 'no' }
  /** One that could be it is under way, and does not say yet what is in it. */
  | { readonly found: 'perhaps' };

/**
 * A provider's batch interface. Every call throws a TeacherError that says whether trying again can help; a failed `submit` may have
 * submitted all the same, which `find` tells.
 */
export interface BatchService {
  readonly format: BatchFormat;
  /** To be kept with a job before it is submitted: what `find` needs where the provider keeps no names. */
  mark(signal: AbortSignal): Promise<string | undefined>;
  /** Returns the provider's id. */
  submit(job: BatchJob, lines: readonly string[], signal: AbortSignal): Promise<string>;
  /** `known` are ids of other jobs. */
  find(job: BatchJob, known: ReadonlySet<string>, signal: AbortSignal): Promise<FoundBatch>;
  poll(providerId: string, signal: AbortSignal): Promise<BatchState>;
  /** The answers of an ended batch in whatever order; throws where they do not come whole. */
  results(sources: readonly BatchSource[], signal: AbortSignal): AsyncGenerator<BatchResult>;
}

/** A teacher that can also be handed many requests at once, for a part of the price, and answers them within a day. */
export interface BatchingTeacher extends Teacher {
  readonly batches: BatchService;
}

export const takesBatches = (teacher: Teacher): teacher is BatchingTeacher => 'batches' in teacher;
