import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, UserError } from '../base/errors.ts';
import { hasCode, sha256OfFile, writeJsonAtomic } from '../base/folders.ts';
import type { PrimingStrategy } from '../priming/strategy.ts';
import type { TeacherIdentity, TeacherSampling } from '../teachers/teacher.ts';
import { termsFor } from '../teachers/terms.ts';
import { type AnswerHead, readAnswerHeads } from './answer-head.ts';
import { countBy } from './collection-report.ts';
import { responsesFile, spendingOf } from './response-store.ts';
import { addSpending, nothingSpent, type Prices, type Spending } from './spending.ts';

/** The card's file in a folder of answers. */
export const provenanceFile = (folder: string): string => join(folder, 'provenance.json');

const formatVersion = 1;

/** How one source's answers came about. */
export interface SourceProvenance {
  readonly teacher: TeacherIdentity;
  /** The model's name as the provider reported it, with the number of answers under each. */
  readonly reportedModels: Readonly<Record<string, number>>;
  readonly strategy: PrimingStrategy;
  readonly task: { readonly name: string; readonly instruction: string };
  readonly sampling: TeacherSampling;
  readonly samplesPerQuestion: number;
  readonly prices?: Prices;
  /** Of the answers that this collection wanted. */
  readonly keptCount: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly firstAnswerAt?: string;
  readonly lastAnswerAt?: string;
  /** `usd` only where prices were known. */
  readonly spent: Omit<Spending, 'usd'> & { readonly usd?: number };
  /** What is known of the terms under which the answers came. */
  readonly terms: readonly string[];
}

const cardSchema = z.looseObject({ version: z.literal(formatVersion), sources: z.record(z.string(), z.unknown()) });

/** What `collect` knows when it ends. */
export interface ProvenanceFacts
  extends Pick<SourceProvenance, 'teacher' | 'strategy' | 'task' | 'sampling' | 'samplesPerQuestion' | 'prices'> {
  readonly source: string;
  /** Of all answers that were wanted. */
  readonly counted: CountedAnswers;
}

/** Writes the card of a folder anew: this source's part from its answers, the other sources' as it was, and the answers' hash. */
export const writeProvenance = async (folder: string, { source, counted, ...facts }: ProvenanceFacts): Promise<void> => {
  const card = await readCard(folder);
  const part: SourceProvenance = { ...facts, ...counted, terms: termsFor(facts.teacher) };
  const files = { 'responses.jsonl': await sha256OfFile(responsesFile(folder)) };
  await writeJsonAtomic(provenanceFile(folder), { version: formatVersion, sources: { ...card, [source]: part }, files });
};

/** The card of a folder whose answers became fewer: counts and hash follow. `keys` are of the answers that are left. */
export const refreshProvenance = async (folder: string, keys: readonly string[]): Promise<void> => {
  const card = await readCard(folder);
  if (Object.keys(card).length === 0) return;
  const counter = answerCounter(keys);
  for await (const head of readAnswerHeads(responsesFile(folder))) counter.add(head);
  const counts = counter.counted();
  const sources = Object.fromEntries(Object.entries(card).map(([name, part]) => [name, { ...z.looseObject({}).parse(part), ...counts }]));
  const files = { 'responses.jsonl': await sha256OfFile(responsesFile(folder)) };
  await writeJsonAtomic(provenanceFile(folder), { version: formatVersion, sources, files });
};

/** How the answers of each source in a folder came about; nothing where there is no card. */
export const readProvenance = (folder: string): Promise<Record<string, unknown>> => readCard(folder);

const readCard = async (folder: string): Promise<Record<string, unknown>> => {
  const path = provenanceFile(folder);
  try {
    return cardSchema.parse(JSON.parse(await readFile(path, 'utf8'))).sources;
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return {};
    throw new UserError(
      `${path} is not a provenance card of this version: ${messageOf(thrown)}. Move it away; the answers beside it are not touched.`,
    );
  }
};

interface AnswerKind {
  readonly model: string | undefined;
  readonly failure: string | undefined;
}

/** What the answers themselves say in a card. */
export type CountedAnswers = Pick<
  SourceProvenance,
  'reportedModels' | 'keptCount' | 'failures' | 'firstAnswerAt' | 'lastAnswerAt' | 'spent'
>;

/** Counts answers in the order of their lines. */
export interface AnswerCounter {
  add(head: AnswerHead): void;
  counted(): CountedAnswers;
}

/** Counts those under these request keys; others are let pass. */
export const answerCounter = (requestKeys: Iterable<string>): AnswerCounter => {
  const keys = new Set(requestKeys);
  // By key the last answer's kind, of which there are few.
  const last = new Map<string, AnswerKind>();
  const kinds = new Map<string, AnswerKind>();
  let spent = nothingSpent;
  let isPriced = false;
  let firstAnswerAt: string | undefined;
  let lastAnswerAt: string | undefined;
  return {
    add: (head) => {
      const { requestKey, status, reason, reportedModel, collectedAt } = head;
      if (!keys.has(requestKey)) return;
      const kind = { model: reportedModel, failure: status === 'kept' ? undefined : (reason ?? status) };
      const name = JSON.stringify(kind);
      if (!kinds.has(name)) kinds.set(name, kind);
      last.set(requestKey, kinds.get(name) ?? kind);
      spent = addSpending(spent, spendingOf(head));
      isPriced ||= head.costUsd !== undefined;
      firstAnswerAt ??= collectedAt;
      lastAnswerAt = collectedAt;
    },
    counted: () => {
      const answers = [...last.values()];
      const { usd, ...counted } = spent;
      return {
        reportedModels: countBy(answers.flatMap(({ model }) => model ?? [])),
        keptCount: answers.filter(({ failure }) => failure === undefined).length,
        failures: countBy(answers.flatMap(({ failure }) => failure ?? [])),
        ...(firstAnswerAt === undefined ? {} : { firstAnswerAt }),
        ...(lastAnswerAt === undefined ? {} : { lastAnswerAt }),
        spent: isPriced ? { ...counted, usd } : counted,
      };
    },
  };
};
