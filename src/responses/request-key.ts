import { sha256 } from '../base/folders.ts';
import { randomFrom } from '../base/random.ts';
import type { ChatMessage, TeacherIdentity, TeacherSampling } from '../teachers/teacher.ts';

/** All that decides an answer. */
export interface RequestKeyParts {
  readonly messages: readonly ChatMessage[];
  readonly teacher: TeacherIdentity;
  readonly sampling: TeacherSampling;
  readonly strategy: { readonly name: string; readonly version: number };
  readonly sampleIndex: number;
}

/** Part of every key: to be raised when keys are made in another way. */
const keyVersion = 1;

/**
 * The key under which an answer is stored: a SHA-256 over everything that decides it, and over nothing else. A teacher's location is left out:
 * a server that moves to another port is the same teacher.
 */
export const requestKey = ({ messages, teacher, sampling, strategy, sampleIndex }: RequestKeyParts): string =>
  sha256(
    JSON.stringify([
      keyVersion,
      messages.map(({ role, content }) => [role, content]),
      [teacher.kind, teacher.provider, teacher.model, teacher.revision, teacher.templateHash],
      Object.entries(teacher.settings ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)),
      [sampling.maximumTokens, sampling.temperature, sampling.topP, sampling.seed],
      [strategy.name, strategy.version],
      sampleIndex,
    ]),
  );

/** SHA-256 of a conversation. */
export const promptHash = (messages: readonly ChatMessage[]): string =>
  sha256(JSON.stringify(messages.map(({ role, content }) => [role, content])));

/**
 * The seed of one request: of the question and the sample, and not of the strategy, so that arms differ in the priming alone. 31 bits, which
 * every provider takes.
 */
export const requestSeed = (seed: number, exampleId: string, sampleIndex: number): number =>
  randomFrom(seed, 'request', exampleId, sampleIndex).integer(2 ** 31);

/** A teacher in one word, for a line of the store. */
export const teacherName = ({ kind, provider, model, revision }: TeacherIdentity): string =>
  `${kind}:${provider === undefined ? '' : `${provider}/`}${model}${revision === undefined ? '' : `@${revision}`}`;
