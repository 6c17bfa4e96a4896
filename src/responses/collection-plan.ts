import { UserError } from '../base/errors.ts';
import { primedMessages } from '../priming/primed-messages.ts';
import type { PrimingStrategy } from '../priming/strategy.ts';
import type { Example, Task } from '../tasks/task.ts';
import type { ChatMessage, TeacherIdentity, TeacherSampling } from '../teachers/teacher.ts';
import { requestKey, requestSeed } from './request-key.ts';

/** What is to be asked, question by question. Messages and sampling are made when they are needed, not kept. */
export interface PlannedAnswer {
  readonly requestKey: string;
  readonly example: Example;
  readonly sampleIndex: number;
  readonly sampling: TeacherSampling;
  messages(): ChatMessage[];
}

/** What decides the answers of one collection. */
export interface CollectionPlanOptions {
  readonly examples: readonly Example[];
  readonly task: Task;
  readonly strategy: PrimingStrategy;
  readonly teacher: { readonly identity: TeacherIdentity };
  /** `seed` is the collection's: each request gets one of its own from it. */
  readonly sampling: TeacherSampling;
  /** Answers to each question; 1 when absent. */
  readonly samplesPerQuestion?: number;
  /** Sees every text before it is sent, and says what is sent in its place: names, addresses. Keys follow what is sent. */
  readonly redact?: (text: string) => string;
}

/** Every request of a collection in the order of the examples. A pure function: the same options always give the same keys. */
export const planCollection = ({
  examples,
  task,
  strategy,
  teacher,
  sampling,
  samplesPerQuestion = 1,
  redact = (text) => text,
}: CollectionPlanOptions): PlannedAnswer[] => {
  checkIds(examples);
  const sampleIndices = Array.from({ length: samplesPerQuestion }, (_, index) => index);
  const messagesOf = (example: Example): ChatMessage[] =>
    primedMessages(strategy, example, task.instruction).map(({ role, content }) => ({ role, content: redact(content) }));
  const plan: Plan = { sampling, messagesOf };
  const planOne = (example: Example, sampleIndex: number): PlannedAnswer => {
    const seed = requestSeed(sampling.seed, example.id, sampleIndex);
    const parts = { messages: messagesOf(example), teacher: teacher.identity, sampling: { ...sampling, seed }, strategy, sampleIndex };
    return new Planned(requestKey(parts), example, sampleIndex, seed, plan);
  };
  return examples.flatMap((example) => sampleIndices.map((sampleIndex) => planOne(example, sampleIndex)));
};

/** What all requests of a plan share. */
interface Plan {
  readonly sampling: TeacherSampling;
  readonly messagesOf: (example: Example) => ChatMessage[];
}

/** A class, since there may be a hundred thousand: an object with a closure and a sampling of its own takes three times the memory. */
class Planned implements PlannedAnswer {
  readonly requestKey: string;
  readonly example: Example;
  readonly sampleIndex: number;
  readonly #seed: number;
  readonly #plan: Plan;

  constructor(key: string, example: Example, sampleIndex: number, seed: number, plan: Plan) {
    this.requestKey = key;
    this.example = example;
    this.sampleIndex = sampleIndex;
    this.#seed = seed;
    this.#plan = plan;
  }

  get sampling(): TeacherSampling {
    return { ...this.#plan.sampling, seed: this.#seed };
  }

  messages(): ChatMessage[] {
    return this.#plan.messagesOf(this.example);
  }
}

const checkIds = (examples: readonly Example[]): void => {
  const seen = new Set<string>();
  for (const { id } of examples) {
    if (seen.has(id))
      throw new UserError(`Two questions have the id ${JSON.stringify(id)}. Answers are joined by ids: give each question its own.`);
    seen.add(id);
  }
};
